"""`fondaco provider`: how a provider stands on the ledger, and how its operator takes it out of the market."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import json_option, print_json, say
from fondaco.node.cli.provider_home import init, run, status
from fondaco.node.cli.provider_probe import probe
from fondaco.node.cli.provider_trial import inventory, pricing

if TYPE_CHECKING:
    from fondaco.node.tenant.providing import Offering
    from fondaco.protocol.scalars import Millis

operator_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The provider's folder; its node or one of its peers must run.",
)
key_option = click.option(
    "--key", default="provider", show_default=True, help="Which key of the home is the provider's."
)


@click.group()
def provider() -> None:
    """Run a provider: its prices and books, how it stands on the ledger, and the way out of the market."""


@provider.command()
@click.argument("address", required=False)
@operator_home
@key_option
@json_option
def show(address: str | None, home: Path, key: str, as_json: bool) -> None:
    """Show the provider at ADDRESS, or one's own: attributes, bond, signs of life, leases, retirement."""
    from fondaco.node.cli.tenant import run as at_once

    at_once(_show, home, key, address, as_json)


@provider.command()
@operator_home
@key_option
@click.option("--wait", is_flag=True, help="Return only once the last lease has ended and the bond is back.")
@click.option("--yes", is_flag=True, help="Do not ask before leases are ended.")
@json_option
def retire(home: Path, key: str, wait: bool, yes: bool, as_json: bool) -> None:
    """End every lease with the notice that was promised, take no new ones, and get the bond back.

    Leases without such a promise end at once. Where windows have to be waited for, keep the node running, and say
    it again when they are over, or use --wait.
    """
    from fondaco.node.cli.tenant import run as at_once

    at_once(_retire, home, key, wait, not (yes or as_json or not sys.stdin.isatty()), as_json)


@provider.command()
@operator_home
def register(home: Path) -> None:
    """Let a provider that has retired register anew, when its node is started the next time."""
    from fondaco.node import config
    from fondaco.node.registration import RegistrationMark
    from fondaco.protocol.errors import Refused

    settings = config.load(home)
    if settings.provider is None:
        raise Refused("provider.none", f"{home} is no provider's", hint="is --home right?")
    RegistrationMark(settings.provider_home).clear()
    click.echo("registers when its node is started")


async def _show(home: Path, key: str, address: str | None, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.providing import registered
    from fondaco.protocol import addresses

    async with connected(home, key) as operator:
        whom = operator.wallet.signer.public_key if address is None else addresses.decode(address)
        found = await registered(operator.light, whom)
        await operator.light.cross_check()
    _finish(found, as_json)


async def _retire(home: Path, key: str, wait: bool, ask: bool, as_json: bool) -> None:
    import trio

    from fondaco.node.cli.tenant import connected
    from fondaco.node.registration import RegistrationMark
    from fondaco.node.tenant import providing

    async with connected(home, key) as operator:
        before = await providing.registered(operator.light, operator.wallet.signer.public_key)
        say(_intention(before, operator.light.trusted_time))
        if ask:
            click.confirm("Retire?", abort=True, err=True)
        # Before the ledger forgets it: the node must not register again when it is started the next time.
        mark = RegistrationMark(home / "provider")
        await trio.to_thread.run_sync(mark.set, operator.light.chain)
        found = await providing.retire(operator.wallet, wait=wait, report=_report)
        await operator.light.cross_check()
    _finish(found, as_json)


def _intention(before: Offering, now: Millis) -> str:
    from fondaco.node.cli.stake import _moment

    windows = [lease.reclamation_window_ms for lease in before.unannounced]
    last = max([before.last_end or 0, *(now + window for window in windows if window)])
    at_once = sum(not window for window in windows)
    text = f"{len(before.leases)} leases end, {at_once} of them at once"
    return text + (f"; the last window is over about {_moment(last)}" if last else "")


def _report(found: Offering) -> None:
    if found.record is None:
        say("  retired: the bond is back")
    else:
        say(f"  {len(found.unannounced)} leases are still to be ended, {len(found.leases)} are alive")


def _finish(found: Offering, as_json: bool) -> None:
    told = _plain(found)
    if as_json:
        print_json(told)
    else:
        _tell(told)


def _plain(found: Offering) -> dict[str, Any]:
    from fondaco.node.cli.stake import _moment
    from fondaco.protocol import addresses

    record, signs = found.record, found.signs
    return {
        "address": addresses.encode(found.provider),
        "registered": record is not None,
        "registered_at": None if record is None else _moment(record.registered_at),
        "attributes": {} if record is None else {one.key: one.value for one in record.attributes},
        "bond_ustake": 0 if record is None else record.bond,
        "alive_at": None if signs is None else _moment(signs.alive_at),
        "covered_to": None if signs is None else _moment(signs.covered_to),
        "live_leases": dict(sorted(Counter(lease.state.name.lower() for lease in found.leases).items())),
        "retiring_since": _moment(found.retiring_since),
        "last_window_ends": _moment(found.last_end),
    }


def _tell(told: dict[str, Any]) -> None:
    """For people: one line a fact, and only those that are there."""
    lines = [told["address"]]
    if not told["registered"]:
        lines.append("  retired: no provider any more, and the bond is back")
    else:
        lines.append(f"  registered {told['registered_at']}, bond {told['bond_ustake']} ustake")
        lines += [f"  {key} = {value}" for key, value in told["attributes"].items()]
    if told["alive_at"]:
        lines.append(f"  last sign of life {told['alive_at']}, which covers until {told['covered_to']}")
    for state, count in told["live_leases"].items():
        lines.append(f"  leases {state}: {count}")
    if told["retiring_since"]:
        lines.append(f"  retiring since {told['retiring_since']}: takes no new leases")
        if told["last_window_ends"]:
            lines.append(f"  the last window is over at {told['last_window_ends']}; then: fondaco provider retire")
    click.echo("\n".join(lines))


provider.add_command(init)
provider.add_command(run)
provider.add_command(status)
provider.add_command(probe)
provider.add_command(pricing)
provider.add_command(inventory)
