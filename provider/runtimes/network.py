"""What a workload may reach and under which names, as files of its folder.

run/<workload>/links.json   for the linker to read
run/<workload>/etc/         hosts and resolv.conf, bound into the workload
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fondaco.provider.runtimes.links import spaces
from fondaco.provider.runtimes.port import Link, WorkloadSpec

LINKS = "links.json"
GATE, HELD = "gate", "held"
"""Of a workload's scratch folder."""
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


def is_public(address: str) -> bool:
    """Whether workloads reach it where egress is public."""
    try:
        given = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return not any(given in ipaddress.IPv4Network(one) for one in spaces.FORBIDDEN)


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
    _put(etc / "hosts", hosts(spec.service, spec.links))
    _write(run_dir, spec, egress.pasta)


def rewrite(run_dir: Path, spec: WorkloadSpec, egress: Egress) -> None:
    """Write it down anew, for a workload that may run: a way out it may lose, but gets only when it starts."""
    _put(run_dir / "etc" / "hosts", hosts(spec.service, spec.links))
    had = json.loads((run_dir / LINKS).read_bytes())["outward"]
    _write(run_dir, spec, egress.pasta if had else "")


def _write(run_dir: Path, spec: WorkloadSpec, outward: str) -> None:
    links = [[link.service, link.port, link.target_port, link.transport] for link in spec.links]
    fresh = run_dir / f"{LINKS}.new"
    fresh.write_text(json.dumps({"links": links, "outward": outward}), encoding="utf-8")
    fresh.replace(run_dir / LINKS)


def gate(run_dir: Path) -> str:
    """The pipe that a workload waits at, before its program runs, until it is linked; empty if it is not to be."""
    if not (run_dir / LINKS).is_file():
        return ""
    told = json.loads((run_dir / LINKS).read_bytes())
    return str(run_dir / "scratch" / GATE) if told["links"] or told["outward"] else ""


def open_gate(run_dir: Path) -> None:
    """Let it go on; nothing if it does not wait, or no more."""
    with contextlib.suppress(OSError):
        os.close(os.open(run_dir / "scratch" / GATE, os.O_WRONLY | os.O_NONBLOCK))


def files(run_dir: Path) -> dict[str, Path]:
    """What of `run_dir` is bound into the workload, by where."""
    etc = run_dir / "etc"
    return {path: etc / Path(path).name for path in (HOSTS, RESOLVERS) if (etc / Path(path).name).is_file()}


def _put(path: Path, text: str) -> None:
    """In place: what is bound into a workload is this file, not its name."""
    with path.open("w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
