"""`fondaco market` and `fondaco why`: what a node knows of its market, and why things are as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json, progress

if TYPE_CHECKING:
    from fondaco.node.config import NodeConfig

days_option = click.option(
    "--days", type=click.IntRange(min=1), default=30, show_default=True, help="So far back from the newest block."
)


@click.group()
def market() -> None:
    """Prices, GPUs, capacity and providers, out of the database of a node that has `market = true`.

    HOME is the folder of that node, or of a network on this machine, whose first such node is taken. The node
    may be running. The database, HOME/data/market/market.db, opens in Datasette too.
    """


@market.command()
@home_option
@days_option
@json_option
def prices(home: Path, days: int, as_json: bool) -> None:
    """Show what leases cost by resource: least, median and weighted, in ucredit an hour."""
    _ask(home, ("prices",), as_json, days=days)


@market.command()
@home_option
@days_option
@json_option
def gpu(home: Path, days: int, as_json: bool) -> None:
    """Show GPUs by model: prices, how many are leased, and the revenue of each by day."""
    _ask(home, ("gpu", "gpu_revenue"), as_json, days=days)


@market.command()
@home_option
@days_option
@json_option
def capacity(home: Path, days: int, as_json: bool) -> None:
    """Show what is leased, offered and free, by provider and over all, and what was leased on average."""
    _ask(home, ("capacity", "availability", "utilisation"), as_json, days=days)


@market.command()
@home_option
@json_option
def providers(home: Path, as_json: bool) -> None:
    """Show what each provider serves and earned, how it answers, and its uptime over 1, 7 and 30 days."""
    _ask(home, ("providers", "uptime"), as_json)


@market.command()
@click.argument("name", required=False)
@home_option
@days_option
@json_option
def query(name: str | None, home: Path, days: int, as_json: bool) -> None:
    """Run the canned query NAME, or list those there are."""
    from fondaco.node.market.queries import QUERIES
    from fondaco.protocol.errors import Refused

    if name is None:
        told = {each: one.meaning for each, one in QUERIES.items()}
        if as_json:
            print_json(told)
        for each, meaning in () if as_json else told.items():
            click.echo(f"{each:<14} {meaning}")
        return
    if name not in QUERIES:
        raise Refused("market.query", f"there is no query {name!r}", hint=f"one of {', '.join(QUERIES)}")
    _ask(home, (name,), as_json, days=days)


@market.command()
@home_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it there, so that the node may be running; else it takes the place of the node's own.",
)
@json_option
def rebuild(home: Path, out: Path | None, as_json: bool) -> None:
    """Build the market database anew from the event log."""
    from contextlib import ExitStack

    from fondaco.node.files import DirectoryLock
    from fondaco.node.market.index import rebuild as build
    from fondaco.node.market.log import EventLog
    from fondaco.protocol.errors import Refused

    settings = market_node(home)
    if out is not None and out.exists():
        raise Refused("market.exists", f"there is a file {out} already", hint="choose another --out")
    with ExitStack() as closing:
        if out is None:
            closing.enter_context(DirectoryLock(settings.data))
        log = EventLog.view(settings.market_home / "log.db")
        closing.callback(log.close)
        path = out or settings.market_home / "market.db"
        build(log, path, _counter(log.last()))
        heights = log.heights()
        entries = log.last()
    first, last = heights or (None, None)
    made = {"database": str(path), "start_height": first, "height": last, "entries": entries}
    if as_json:
        print_json(made)
        return
    for key, value in made.items():
        click.echo(f"{key:<16} {value}")


def _counter(entries: int) -> Callable[[], None]:
    from fondaco.node.market.index import BATCH

    tell, done = progress("indexed"), 0

    def tick() -> None:
        nonlocal done
        done += BATCH
        tell(done, entries)

    return tick


@market.command()
@click.argument("one", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("other", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--ledger", is_flag=True, help="Only the tables that blocks alone decide: of two nodes, say.")
@json_option
@click.pass_context
def compare(context: click.Context, one: Path, other: Path, ledger: bool, as_json: bool) -> None:
    """Compare two market databases row by row; exit code 1, and the first difference, where they are not equal."""
    from fondaco.node.market.dump import difference
    from fondaco.protocol.errors import Refused

    found = difference(one, other, ledger_only=ledger)
    if as_json:
        print_json({"equal": not found, "difference": found})
        if found:
            context.exit(1)
    elif found:
        raise Refused("market.differs", found)
    else:
        click.echo("equal")


@click.command()
@click.argument("identity", metavar="ID")
@home_option
@json_option
@click.pass_context
def why(context: click.Context, identity: str, home: Path, as_json: bool) -> None:
    """Tell what led to ID, and what came of it, each step with who signed it.

    ID is the id of an order, bid, decline, lease or transaction, a block's height or hash, or an address; its
    beginning will do. KIND:ID says which it is where several begin so. HOME is the folder of a node that has
    `market = true`, or of a network on this machine; the node may be running.
    """
    from dataclasses import asdict

    from fondaco.node.market.why import Ambiguous, Sources, as_text
    from fondaco.node.market.why import why as tell

    with Sources.open(market_node(home).data) as sources:
        try:
            answer = tell(sources, identity)
        except Ambiguous as ambiguous:
            if not as_json:
                raise
            print_json({"code": ambiguous.code, "candidates": [asdict(one) for one in ambiguous.candidates]})
            context.exit(1)
    if as_json:
        print_json(asdict(answer))
    else:
        click.echo(as_text(answer))


def market_node(home: Path) -> NodeConfig:
    """The node in `home`, or the first with a market of the network there.

    Raises `Refused` `market.none`, `config.*` or `testnet.*`.
    """
    from fondaco.node import config
    from fondaco.protocol.errors import Refused

    homes = [home]
    if not (home / "node.toml").exists() and (home / "testnet.json").exists():
        from fondaco.node.testnet import Plan

        homes = [home / "nodes" / member.name for member in Plan.load(home).members]
    for each in homes:
        settings = config.load(each)
        if settings.market:
            return settings
    raise Refused("market.none", f"no node in {home} keeps a market", hint="set market = true in its node.toml")


def _ask(home: Path, names: tuple[str, ...], as_json: bool, **values: Any) -> None:
    from fondaco.node.market.dump import open_database
    from fondaco.node.market.queries import QUERIES, ask

    connection = open_database(market_node(home).market_home / "market.db")
    try:
        found = {name: ask(connection, name, values) for name in names}
        start = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('start_height', 'height')"))
    finally:
        connection.close()
    meta = {key: int(value) for key, value in start.items()}
    if as_json:
        print_json({**meta, **found})
        return
    for name, rows in found.items():
        click.echo(QUERIES[name].title)
        _table(rows)
    click.echo(f"blocks {meta.get('start_height', '-')} to {meta.get('height', '-')}")


def _table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("  nothing yet\n")
        return
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    for row in cells:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    click.echo()


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
