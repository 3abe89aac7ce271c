"""How long a file takes through the whole chain: text to problems, manifest, groups, version hash and groups hash.

Three files: the smallest there is, the one that `fondaco sdl init` writes with its comments, and an application of
four services with a GPU, volumes and two placements.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from fondaco.node import cli
from fondaco.node.bench import Figure, Result, percentile
from fondaco.protocol.sdl import parse

RUNS = 200
NODE = Path(cli.__file__).parent.parent
SERVICES = ("web", "api", "worker", "db")


def measure() -> Result:
    """Over all runs of all files; beside it what libyaml alone takes to compose them."""
    files = {"hello": _text("hello.yaml"), "start": _text("cli/start.yaml"), "application": application()}
    whole: list[float] = []
    composing: list[float] = []
    for _ in range(RUNS):
        for text in files.values():
            whole.append(_ms(partial(_chain, text)))
            composing.append(_ms(partial(yaml.compose, text, Loader=yaml.CSafeLoader)))
    return Result(
        bench="sdl",
        parameters={"runs": RUNS, "bytes": {name: len(text) for name, text in files.items()}},
        figures={
            "ms_per_file_p50": Figure(value=round(percentile(whole, 50), 3), unit="ms"),
            "ms_per_file_p99": Figure(value=round(percentile(whole, 99), 3), unit="ms"),
        },
        limit={"compose_ms_p50": Figure(value=round(percentile(composing, 50), 3), unit="ms")},
    )


def _text(name: str) -> str:
    return (NODE / name).read_text(encoding="utf-8")


def _chain(text: str) -> tuple[bytes, bytes]:
    stack = parse(text)
    return stack.version_hash, stack.groups_sha256


def _ms(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1_000


def application() -> str:
    """What a person with a whole application writes."""
    services = "".join(
        f"""
  {name}:
    image: registry.example/{name}:1.0
    env: [LEVEL=info, NAME={name}, PORT=8080]
    command: ["/bin/{name}", "--serve"]
    params:
      storage:
        data: {{mount: /var/lib/{name}}}
    expose:
      - port: 8080
        as: {80 if name == "web" else 8080}
        to:
          - {"global: true" if name == "web" else "service: web"}
"""
        for name in SERVICES
    )
    compute = "".join(
        f"""
    {name}:
      resources:
        cpu: {{units: 1.5}}
        memory: {{size: 2Gi}}
        gpu: {{units: 1, attributes: {{vendor: {{nvidia: [{{model: a100}}, {{model: h100, ram: 80Gi}}]}}}}}}
        storage:
          - size: 1Gi
          - name: data
            size: 20Gi
            attributes: {{persistent: true, class: beta3}}
"""
        for name in SERVICES
    )
    prices = "".join(f"\n        {name}: {{denom: uact, amount: 1000}}" for name in SERVICES)
    placements = "".join(
        f"\n    {place}:\n      attributes: {{region: {place}}}\n      pricing:{prices}"
        for place in ("east", "west")
    )
    deployment = "".join(
        f"\n  {name}:\n    east: {{profile: {name}, count: 2}}\n    west: {{profile: {name}, count: 1}}"
        for name in SERVICES
    )
    return (
        f'version: "2.0"\nservices:{services}\nprofiles:\n  compute:{compute}\n  placement:{placements}\n'
        f"deployment:{deployment}\n"
    )
