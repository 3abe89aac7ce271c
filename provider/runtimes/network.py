"""What a workload may reach and under which names, as files of its folder.

run/<workload>/links.json   for the linker to read
run/<workload>/etc/         hosts and resolv.conf, bound into the workload
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fondaco.provider.runtimes.links import spaces
from fondaco.provider.runtimes.port import Link, WorkloadSpec

LINKS = "links.json"
HOSTS, RESOLVERS = "/etc/hosts", "/etc/resolv.conf"
LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """What workloads may reach of the world."""

    pasta: str = ""
    """The program that carries it to public addresses; empty: nothing."""
    dns: tuple[str, ...] = ()
    """Resolvers that workloads ask: public addresses."""


NO_EGRESS = Egress()


def hosts(service: str, links: Sequence[Link]) -> str:
    """The hosts file of a workload: itself, and those that it may reach."""
    addresses = spaces.addresses_of({link.service for link in links})
    named = [f"{address}\t{name}\n" for name, address in addresses.items() if name not in ("localhost", service)]
    return f"{LOCAL}127.0.0.1\t{service}\n{''.join(named)}"


def describe(run_dir: Path, spec: WorkloadSpec, egress: Egress) -> None:
    """Write it down before a workload starts."""
    etc = run_dir / "etc"
    etc.mkdir()
    etc.chmod(0o755)
    if egress.pasta:
        _put(etc / "resolv.conf", "".join(f"nameserver {one}\n" for one in egress.dns))
    rewrite(run_dir, spec, egress)


def rewrite(run_dir: Path, spec: WorkloadSpec, egress: Egress) -> None:
    """Write it down anew, for a workload that may run."""
    _put(run_dir / "etc" / "hosts", hosts(spec.service, spec.links))
    links = [[link.service, link.port, link.target_port, link.transport] for link in spec.links]
    fresh = run_dir / f"{LINKS}.new"
    fresh.write_text(json.dumps({"links": links, "outward": egress.pasta}), encoding="utf-8")
    fresh.replace(run_dir / LINKS)


def files(run_dir: Path) -> dict[str, Path]:
    """What of `run_dir` is bound into the workload, by where."""
    etc = run_dir / "etc"
    return {path: etc / Path(path).name for path in (HOSTS, RESOLVERS) if (etc / Path(path).name).is_file()}


def _put(path: Path, text: str) -> None:
    """In place: what is bound into a workload is this file, not its name."""
    with path.open("w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
