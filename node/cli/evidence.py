"""What a provider can be asked to show: `manifest get`, and `attest`."""

from __future__ import annotations

import json
from typing import Any

import click

from fondaco.node.cli.output import json_option, print_json, say
from fondaco.node.cli.talk import Target, at_lease, reached
from fondaco.node.cli.tenant import run


@click.group()
def manifest() -> None:
    """What a lease runs, as its provider has it."""


@manifest.command()
@at_lease
@json_option
def get(target: Target, as_json: bool) -> None:
    """Print the manifest that the provider serves, checked against the ledger, as canonical JSON.

    It shows everything that was handed over: environment variables and registry passwords, too. With --json, also
    its version and the newest one that the ledger counts.
    """
    run(_get, target.required(), as_json)


@click.command()
@at_lease
@json_option
def attest(target: Target, as_json: bool) -> None:
    """Ask the provider for evidence of the hardware that the workload runs on.

    Refused with [attestation.none] where there is none: whoever runs the machine can then read the workload.
    """
    run(_attest, target.required(), as_json)


async def _get(target: Target, as_json: bool) -> None:
    async with reached(target) as lease:
        served = await lease.get_manifest()
    if as_json:
        told: dict[str, Any] = {"lease": lease.id, "version": served.version, "ledger_version": served.newest}
        print_json(told | {"manifest": json.loads(served.manifest)})
        return
    click.echo(served.manifest.decode())
    if served.version != served.newest:
        say(f"this is version {served.version}; the ledger counts version {served.newest}")


async def _attest(target: Target, as_json: bool) -> None:
    async with reached(target) as lease:
        await lease.attest()
