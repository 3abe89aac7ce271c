"""`fondaco backtest`: what a way of choosing among bids would have done with what a node recorded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json, progress

if TYPE_CHECKING:
    import sqlite3

    from fondaco.node.market.backtest import Report
    from fondaco.node.tenant.choosing import Choice

SHOWN = 5
"""Providers and reasons listed for each strategy."""


@click.command()
@click.argument("strategies", nargs=-1, required=True, metavar="STRATEGY...")
@home_option
@click.option("--since", metavar="TIME", help="So far back from the newest order: 12h, 7d. All by default.")
@click.option("--where", default="", metavar="QUERY", help="What every bid must be.")
@click.option(
    "--window", default="2s", show_default=True, metavar="TIME", help="How long each order waits for bids."
)
@json_option
def backtest(
    strategies: tuple[str, ...], home: Path, since: str | None, where: str, window: str, as_json: bool
) -> None:
    """Decide every recorded order again by each STRATEGY, knowing only what was known then.

    A STRATEGY is what `fondaco deploy --select` takes: cheapest, fastest, balanced, audited-first, spread, the
    path of a rules file (it ends in .toml), or module:function. HOME is the folder of a node that keeps a market,
    or of a network on this machine.
    """
    from fondaco.node.cli.market import market_node
    from fondaco.node.market.dump import open_database
    from fondaco.node.tenant.choosing import choice
    from fondaco.protocol.scalars import Millis

    choices = [choice(name, where) for name in strategies]
    window_ms, back_ms = _time(window, "--window"), None if since is None else _time(since, "--since")
    with closing(open_database(market_node(home).market_home / "market.db")) as connection:
        reports = [(one, _replay(connection, one, back_ms, Millis(window_ms))) for one in choices]
    if as_json:
        print_json({"strategies": [{"strategy": one.name, **_plain(report)} for one, report in reports]})
        return
    for one, report in reports:
        _tell(one, report)


def _replay(connection: sqlite3.Connection, one: Choice, back_ms: int | None, window_ms: int) -> Report:
    from fondaco.node.market.backtest import Recording, replay
    from fondaco.protocol.scalars import Millis

    recording = Recording(connection)
    since = Millis(0 if back_ms is None else max(0, recording.newest() - back_ms))
    count, tell = recording.count(since), progress(f"{one.name}: decided")
    return replay(
        recording,
        one.strategy,
        since=since,
        where=one.where,
        window_ms=window_ms,
        progress=lambda groups: tell(groups, max(count, groups)),
    )


def _time(text: str, option: str) -> int:
    from fondaco.protocol.errors import Refused
    from fondaco.protocol.query.fields import Kind, read_amount

    found = read_amount(Kind.TIME, text)
    if found is None:
        raise Refused("backtest.time", f"{option}: {text!r} is no time", hint="write 500ms, 2s, 12h or 7d")
    return int(found)


def _plain(report: Report) -> dict[str, Any]:
    from fondaco.protocol import addresses

    return {
        "groups": report.groups,
        "placed": report.placed,
        "without_bids": report.without_bids,
        "all_set_aside": report.all_set_aside,
        "price_per_hour": report.price_per_hour,
        "cheapest_per_hour": report.cheapest_per_hour,
        "maximum_per_hour": report.maximum_per_hour,
        "placed_in_fact": report.taken,
        "same_as_in_fact": report.same_as_taken,
        "outages_within_a_day": report.outages_within_a_day,
        "outages_before": report.outages_before,
        "providers": {addresses.encode(key): count for key, count in report.providers.most_common()},
        "set_aside": dict(report.set_aside.most_common()),
    }


def _tell(one: Choice, report: Report) -> None:
    from fondaco.protocol import addresses
    from fondaco.protocol.selection import show_credits

    above = report.price_per_hour - report.cheapest_per_hour
    rows = {
        "groups": f"{report.groups}, {report.placed} placed, {report.without_bids} without bids,"
        f" {report.all_set_aside} with none that would do",
        "price": f"{show_credits(report.price_per_hour)}/h in all, {show_credits(above)}/h above the cheapest,"
        f" {show_credits(report.maximum_per_hour - report.price_per_hour)}/h below the highest",
        "in fact": f"{report.taken} of those were leased, {report.same_as_taken} from the same provider",
        "outages": f"{report.outages_within_a_day} placed with a provider that failed within a day",
    }
    click.echo(one.name)
    for name, told in rows.items():
        click.echo(f"  {name:<9} {told}")
    for key, count in report.providers.most_common(SHOWN):
        click.echo(f"  {count:>9} chosen: {addresses.encode(key)}")
    for reason, count in report.set_aside.most_common(SHOWN):
        click.echo(f"  {count:>9} set aside: {reason}")
    click.echo()
