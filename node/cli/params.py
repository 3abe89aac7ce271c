"""`fondaco params`: the numbers a chain has chosen, and changing them under the key that its genesis names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json

if TYPE_CHECKING:
    from fondaco.consensus.ledger.params import Params


@click.group()
def params() -> None:
    """Show a chain's parameters, or change them."""


@params.command()
@home_option
@json_option
def show(home: Path, as_json: bool) -> None:
    """Show every parameter, proven, with what it means."""
    from fondaco.node.cli.tenant import run

    run(_show, home, as_json)


async def _show(home: Path, as_json: bool) -> None:
    from fondaco.consensus.ledger.params import FIELDS, Params
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant.connection import open_light
    from fondaco.protocol.errors import Refused
    from fondaco.protocol.records import PARAMS

    async with open_light(home, read_genesis(home / "genesis.json")) as light:
        found = await light.record(PARAMS, Params)
        await light.cross_check()
    if found is None:
        raise Refused("chain.no_params", "this chain has no parameters")
    if as_json:
        print_json(_plain(found))
        return
    for name, field in FIELDS.items():
        about = field.metadata
        click.echo(f"{name:<24} {getattr(found, name):>18} {about['unit']:<12} {about['meaning']}")


@params.command("set")
@click.argument("changes", metavar="NAME=VALUE...", nargs=-1, required=True)
@home_option
@click.option("--key", default="authority", show_default=True, help="The key in HOME that genesis names.")
@json_option
def set_(changes: tuple[str, ...], home: Path, key: str, as_json: bool) -> None:
    """Change parameters, all of them or none, as the authority that the chain's genesis names.

    They hold from the next block on; the answer is proven.
    """
    from fondaco.node.cli.tenant import run

    run(_set, values_of(changes), home, key, as_json)


async def _set(values: dict[str, int], home: Path, key: str, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.staking import set_params

    async with connected(home, key) as authority:
        height, found = await set_params(authority.wallet, values)
        await authority.light.cross_check()
    changed = {name: value for name, value in _plain(found).items() if name in values}
    if as_json:
        print_json({"height": height, "changed": changed})
        return
    click.echo(f"changed in block {height}")
    for name, value in changed.items():
        click.echo(f"  {name} = {value}")


def values_of(changes: tuple[str, ...]) -> dict[str, int]:
    """What was asked for, if the chain could ever take it. Raises `Refused` `params.value` or wrong usage."""
    from fondaco.consensus.ledger.params import Params, changed

    values: dict[str, int] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not value.isascii() or not value.isdigit():
            raise click.UsageError(f"{change!r} is not NAME=VALUE with a whole number")
        if name in values:
            raise click.UsageError(f"{name} is given twice")
        values[name] = int(value)
    changed(Params(), values, code="params.value")
    return values


def _plain(found: Params) -> dict[str, Any]:
    from fondaco.consensus.ledger.params import FIELDS

    return {name: getattr(found, name) for name in FIELDS}
