"""`fondaco provider probe`: what the runtimes of this machine really hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.node.provider_config import ProviderConfig
    from fondaco.provider.runtimes.survey import Report


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Try it on the disk of this provider's folder, instead of the one for temporary files; and its cluster.",
)
@click.option(
    "--podman-socket",
    type=click.Path(path_type=Path),
    help="Where podman's service listens, unless that is where it does by itself.",
)
@click.option(
    "--docker-socket",
    type=click.Path(path_type=Path),
    help="Where docker's daemon listens, if not on /var/run/docker.sock.",
)
@json_option
def probe(home: Path | None, podman_socket: Path | None, docker_socket: Path | None, as_json: bool) -> None:
    """Try the runtimes of this machine on workloads that misbehave, and say what holds.

    Real sandboxes run, ask for too much memory, processors and processes, and dial private addresses. Takes some
    seconds for each runtime. Refused, with what to install, where no runtime isolates as it must.
    """
    import trio

    from fondaco.node.runtime_survey import advice
    from fondaco.protocol.errors import Refused

    with tempfile.TemporaryDirectory(prefix="fondaco-probe-", dir=home, ignore_cleanup_errors=True) as folder:
        reports = trio.run(_survey, Path(folder), podman_socket, docker_socket, _provider(home))
    install = advice(reports)
    if as_json:
        print_json(_plain(reports, install))
    else:
        click.echo("\n".join(_lines(reports)))
    if install:
        raise Refused("runtime.unavailable", "no runtime of this machine can isolate workloads", hint=install)


def _provider(home: Path | None) -> ProviderConfig | None:
    """Of the home, where it is a node's."""
    from fondaco.node import config

    return None if home is None or not (home / "node.toml").is_file() else config.load(home).provider


async def _survey(
    folder: Path, podman_socket: Path | None, docker_socket: Path | None, provider: ProviderConfig | None
) -> list[Report]:
    from fondaco.node.runtime_survey import survey_machine

    reports = []
    async for report in survey_machine(folder, podman_socket, docker_socket, provider):
        say(f"{report.name}: {'done' if report.checks else 'not here'}")
        reports.append(report)
    return reports


def _plain(reports: list[Report], install: str) -> dict[str, Any]:
    return {
        "usable": [report.name for report in reports if report.usable],
        "install": install or None,
        "runtimes": [
            {
                "name": report.name,
                "version": report.version or None,
                "usable": report.usable,
                "missing": report.missing or None,
                "checks": [
                    {"name": check.name, "verdict": check.verdict.value, "seen": check.seen}
                    for check in report.checks
                ],
            }
            for report in reports
        ],
    }


def _lines(reports: list[Report]) -> Iterator[str]:
    for report in reports:
        yield f"{report.name} {report.version}".rstrip() + ("" if report.checks else f": {report.missing}")
        for check in report.checks:
            yield f"  {check.name:<18} {check.verdict.value:<6} {check.seen}"
    usable = [report.name for report in reports if report.usable]
    if usable:
        yield f"usable: {', '.join(usable)}"
