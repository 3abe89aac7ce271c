"""`fondaco testnet`: a network on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json, say

AUDITOR = "auditor"
"""The key of a test network that confirms what its providers state."""
AUDIT_MS = 90 * 86_400_000


@click.group()
def testnet() -> None:
    """A whole network on this machine, for trying and for developing."""


@testnet.command()
@click.option(
    "--validators", type=click.IntRange(1, 16), default=4, show_default=True, help="How many nodes agree."
)
@click.option("--providers", type=click.IntRange(0, 16), default=2, show_default=True, help="How many rent out.")
@home_option
@json_option
def up(validators: int, providers: int, home: Path, as_json: bool) -> None:
    """Start the network in HOME, making it first if it is not there, and keep it running until Ctrl-C.

    Started again with the same home it goes on where it stopped; then the counts are those it was made with.
    """
    from fondaco.node import forked

    forked.prepare()
    import trio

    from fondaco.node import logs

    logs.configure_quiet()
    trio.run(_up, validators, providers, home, as_json)


async def _up(validators: int, providers: int, home: Path, as_json: bool) -> None:
    import signal

    import trio

    from fondaco.node import testnet as network_module

    plan = _plan(home, validators, providers)
    say(f"starting {len(plan.members)} nodes of {plan.chain} in {home}")
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with network_module.running(plan) as network:
            members = [_row(member, network.pid(member.name)) for member in plan.members]
            await _audit(home)
            if as_json:
                print_json({"chain": plan.chain, "home": str(home), "members": members})
            else:
                for row in members:
                    click.echo(f"{row['name']:<14} pid {row['pid']:<8} {row['api'] or row['address']}")
                click.echo(
                    f"ready. In another terminal: fondaco deploy FILE --home {home}\nCtrl-C stops the network."
                )
            await _until(signals, network)
            say("stopping")


async def _audit(home: Path) -> None:
    """Confirm what the network's providers state, so that SDL files that ask for an auditor are served."""
    from fondaco.node.keys.keystore import Keystore
    from fondaco.node.tenant.auditing import audit_all
    from fondaco.node.tenant.client import Tenant
    from fondaco.protocol.errors import FondacoError

    if not any(key.name == AUDITOR for key in Keystore(home / "keys").list()):
        return  # made by a release that knew no auditors
    try:
        async with Tenant.connect(home, key=AUDITOR) as auditor:
            count = await audit_all(auditor.wallet, await auditor.light.providers(), life_ms=AUDIT_MS)
    except FondacoError as error:
        say(f"its providers are not audited: {error.message} [{error.code}]")
        return
    if count:
        say(f"the key {AUDITOR} confirms what {count} providers state")


async def _until(signals: Any, network: Any) -> None:
    """Return at the first signal, or when a node died."""
    import trio

    async def watch(name: str) -> None:
        code = await network.nodes[name].process.wait()
        say(f"{name} ended with code {code}: see {network.plan.home / 'nodes' / name / 'node.log'}")

    async with trio.open_nursery() as nursery:
        for name in list(network.nodes):
            nursery.start_soon(watch, name)
        async for _ in signals:
            break
        nursery.cancel_scope.cancel()


def _plan(home: Path, validators: int, providers: int) -> Any:
    from fondaco.node import image
    from fondaco.node import testnet as network_module

    if (home / "testnet.json").exists():
        return network_module.Plan.load(home)
    plan = network_module.create(home, validators=validators, providers=providers)
    image.build_demo_image(home / "images")
    return plan


def _row(member: Any, pid: int) -> dict[str, Any]:
    return {"name": member.name, "role": member.role, "pid": pid, "address": member.address, "api": member.api}


@testnet.command()
@home_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(home: Path, yes: bool) -> None:
    """Delete the network in HOME with its chain, keys and money."""
    from fondaco.node import testnet as network_module
    from fondaco.node.files import DirectoryLock

    network_module.Plan.load(home)  # refuses a folder that holds no network
    if not yes:
        click.confirm(f"Delete everything in {home}?", abort=True)
    with DirectoryLock(home):
        shutil.rmtree(home)
    click.echo(f"deleted {home}")
