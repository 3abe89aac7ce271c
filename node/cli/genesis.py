"""`fondaco genesis`: what a chain begins with, and beginning a new one with what another has come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import credits, json_option, print_json, progress, say

if TYPE_CHECKING:
    from fondaco.consensus.ledger.genesis import Genesis
    from fondaco.node.genesis_file import Checked

genesis_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def genesis() -> None:
    """Look at a genesis, check it, or make one out of a chain that goes on as another."""


@genesis.command()
@genesis_file
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what the genesis FILE says. Its records, if it has some, are not looked at: see `check`."""
    from fondaco.node.genesis_file import read_genesis

    found = read_genesis(file)
    if as_json:
        print_json(_document(found))
        return
    _tell(_summary(found))
    for validator in _document(found)["validators"]:
        click.echo(f"  validator {validator['address']}  power {validator['power']}")
    for name, value in _document(found)["changed_params"].items():
        click.echo(f"  {name} = {value}")


@genesis.command()
@genesis_file
@json_option
def check(file: Path, as_json: bool) -> None:
    """Judge the genesis FILE as a node does that begins with it, records and all.

    Exit code 1, and one line that says what is wrong, if no chain can begin with it.
    """
    from fondaco.node import genesis_file

    found = genesis_file.check(file)
    if as_json:
        print_json({"valid": True, **_checked(found)})
    else:
        _tell(_checked(found))


@genesis.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of the node whose chain is taken; it may be running.",
)
@click.option("--chain-name", required=True, help="What the new chain is called; its id gets a hash besides.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The document; the records go beside it, as FILE.state.",
)
@click.option(
    "--height",
    type=click.IntRange(min=0),
    help="The last height of the old chain; the newest block's unless given. For an older one all blocks up to it "
    "are executed again.",
)
@click.option(
    "--time-ms",
    type=click.IntRange(min=0),
    help="Genesis time, in ms since 1970; that of the last block unless given.",
)
@json_option
def export(home: Path, chain_name: str, out: Path, height: int | None, time_ms: int | None, as_json: bool) -> None:
    """Write the genesis of a new chain that goes on from a node's.

    All accounts, providers, leases, deposits, stakes and parameters are taken along; the first height is the one
    after the last of the old chain. From the same height, name and time everybody gets the same files.
    """
    from fondaco.node import config
    from fondaco.node.exporting import export_node
    from fondaco.protocol.scalars import Height, Millis

    found = export_node(
        config.load(home),
        out,
        name=chain_name,
        height=None if height is None else Height(height),
        time=None if time_ms is None else Millis(time_ms),
        progress=progress("executed"),
    )
    if as_json:
        print_json(_checked(found) | {"file": str(out)})
        return
    _tell(_checked(found))
    say(f"begin with it: fondaco node init --genesis {out} --home HOME")


def _tell(rows: dict[str, Any]) -> None:
    for name, value in rows.items():
        shown = credits(value) if name == "ucredit" else value
        click.echo(f"{name:<16} {shown}")


def _summary(found: Genesis) -> dict[str, Any]:
    return {
        "chain": found.chain,
        "initial_height": found.initial_height,
        "time_ms": found.time,
        "validators": len(found.validators),
        "power": sum(validator.power for validator in found.validators),
        "authority": _document(found)["authority"],
        "issuer": _document(found).get("issuer"),
    } | ({"accounts": len(found.accounts)} if found.state is None else {"records": found.state.records})


def _document(found: Genesis) -> dict[str, Any]:
    from fondaco.consensus.ledger.params import Params

    document, usual = found.to_json(), Params()
    changed = {name: value for name, value in document["params"].items() if value != getattr(usual, name)}
    return {"chain": found.chain, **document, "changed_params": changed}


def _checked(found: Checked) -> dict[str, Any]:
    return _summary(found.genesis) | {
        "records": found.records,
        "ucredit": found.supply.credits,
        "ustake": found.supply.stake,
        "state_root": found.state_root.hex(),
    }
