"""`fondaco stake`: what an operator does to become a validator, to come back, and to leave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import json_option, moment, print_json

if TYPE_CHECKING:
    from fondaco.node.tenant.staking import Standing
    from fondaco.protocol.messages import Message

operator_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The validator's folder; its node or one of its peers must run.",
)
key_option = click.option(
    "--key", default="validator", show_default=True, help="Which key of the home stands behind the stake."
)
amount_argument = click.argument("amount", metavar="USTAKE", type=click.IntRange(min=1))


@click.group()
def stake() -> None:
    """Bond stake as a validator, look at it, and take it back. Every figure shown is proven."""


@stake.command()
@operator_home
@key_option
@json_option
def show(home: Path, key: str, as_json: bool) -> None:
    """Show the stake, its power and share, jail, absences, and what is on its way out."""
    _run(home, key, None, 0, as_json)


@stake.command()
@amount_argument
@operator_home
@key_option
@json_option
def bond(amount: int, home: Path, key: str, as_json: bool) -> None:
    """Put USTAKE behind the key; with enough of it, it joins the validators two blocks later.

    Each 1,000,000 ustake are one vote. Where the chain has a faucet for stake, that is asked for what is missing.
    """
    from fondaco.protocol.messages import Bond
    from fondaco.protocol.scalars import MicroStake

    _run(home, key, Bond(amount=MicroStake(amount)), amount, as_json)


@stake.command()
@amount_argument
@operator_home
@key_option
@json_option
def unbond(amount: int, home: Path, key: str, as_json: bool) -> None:
    """Take USTAKE from behind the key; it can be slashed until the unbonding time is over, and is free then.

    Unbonding everything leaves the validators two blocks later: keep the node running until `show` says so.
    """
    from fondaco.protocol.messages import Unbond
    from fondaco.protocol.scalars import MicroStake

    _run(home, key, Unbond(amount=MicroStake(amount)), 0, as_json)


@stake.command()
@operator_home
@key_option
@json_option
def unjail(home: Path, key: str, as_json: bool) -> None:
    """Come back from jail, once its time is over."""
    from fondaco.protocol.messages import Unjail

    _run(home, key, Unjail(), 0, as_json)


def _run(home: Path, key: str, message: Message | None, needs: int, as_json: bool) -> None:
    from fondaco.node.cli.tenant import run

    run(_act, home, key, message, needs, as_json)


async def _act(home: Path, key: str, message: Message | None, needs: int, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.staking import change_stake, standing

    async with connected(home, key) as operator:
        if message is None:
            found = await standing(operator.wallet)
        else:
            found = await change_stake(operator.wallet, message, needs=needs)
        await operator.light.cross_check()
    told = _plain(found)
    if as_json:
        print_json(told)
    else:
        _tell(told)


def _plain(found: Standing) -> dict[str, Any]:
    from fondaco.protocol import addresses

    return {
        "address": addresses.encode(found.validator),
        "free_ustake": found.free,
        "bonded_ustake": found.bonded,
        "power": found.power,
        "power_after": found.power_after,
        "power_due": found.power_due,
        "total_power": found.total_power,
        "share": round(found.power / found.total_power, 6),
        "jailed_until": _moment(found.jailed_until),
        "tombstoned": found.tombstoned,
        "unbonding": [
            {"ustake": one.amount, "since": _moment(one.since), "free_at": _moment(one.free_at)}
            for one in found.leaving
        ],
        "missed_blocks": found.missed,
        "missed_since": _moment(found.missed_since),
        "least_bond_ustake": found.params.validator_bond,
    }


def _moment(time_ms: int | None) -> str | None:
    """Block time as a date, in UTC."""
    return None if time_ms is None else moment(time_ms)


def _tell(told: dict[str, Any]) -> None:
    """For people: one line a fact, and only those that are there."""
    lines = [
        told["address"],
        f"  bonded {told['bonded_ustake']} ustake, free {told['free_ustake']} ustake",
        f"  power {told['power']} of {told['total_power']}, {100 * told['share']:.2f} %",
    ]
    if told["power_due"] != told["power"]:
        lines.append(
            f"  on its way to power {told['power_due']}; {told['power_after']} in two blocks at the latest"
        )
    if told["tombstoned"]:
        lines.append("  convicted of breaking its word: this key validates no more")
    elif told["jailed_until"]:
        lines.append(f"  jailed until {told['jailed_until']}; then: fondaco stake unjail")
    if told["missed_blocks"]:
        lines.append(f"  missing from {told['missed_blocks']} blocks in a row, since {told['missed_since']}")
    for one in told["unbonding"]:
        lines.append(f"  unbonding {one['ustake']} ustake since {one['since']}, free from {one['free_at']} on")
    click.echo("\n".join(lines))
