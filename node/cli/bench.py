"""`fondaco bench`: figures, with the machine's limit beside them."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.node.bench import Result

NAMES = (
    *("crypto", "e2e", "light", "consensus", "gossip", "simulate", "ledger", "sdl", "selection", "provider"),
    *("channel", "all"),
)
NODES_MOST = 32
"""More processes than that no machine for benchmarks runs at once."""
RECORDS_LEAST, RECORDS_MOST = 100, 10_000_000


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the figures as a Markdown table to this file.",
)
@click.option(
    "--nodes",
    metavar="N,...",
    callback=lambda _context, _option, text: _numbers(text, 1, NODES_MOST),
    help="For consensus: validators of each network measured, 4 unless given. For gossip: processes, 2 or more, 8 "
    "unless given. With all 4, 7 and 10 of the one, and 4, 8 and 16 of the other.",
)
@click.option(
    "--records",
    metavar="N,...",
    callback=lambda _context, _option, text: _numbers(text, RECORDS_LEAST, RECORDS_MOST),
    help="For ledger: records in the states measured, the largest last. 1000,100000,1000000 unless given.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, 24 * 60),
    default=0,
    help="For consensus: so many minutes more of an even load, to see whether memory grows.",
)
@json_option
def bench(
    name: str,
    table: Path | None,
    nodes: tuple[int, ...],
    records: tuple[int, ...],
    minutes: float,
    as_json: bool,
) -> None:
    """Measure NAME, or all there is, on this machine."""
    from fondaco.node import bench as benches
    from fondaco.node import logs

    logs.configure_quiet()
    results = []
    for each in benches.BENCHES if name == "all" else (name,):
        if each == "ledger":
            say("measuring ledger, for some minutes")
            results.append(benches.measure_ledger(records or benches.RECORDS))
            continue
        if each == "gossip":
            for count in nodes or (benches.GOSSIP_NODES if name == "all" else benches.GOSSIP_NODES[1:2]):
                if count < 2:
                    raise click.BadParameter("gossip takes two processes", param_hint="--nodes")
                say(f"measuring {each} of {count} processes, for a minute or two")
                results.append(benches.measure_gossip(count))
            continue
        if each != "consensus":
            say(f"measuring {each}")
            results.append(benches.BENCHES[each]())
            continue
        for count in nodes or (benches.NODES if name == "all" else benches.NODES[:1]):
            say(f"measuring {each} of {count} validators")
            results.append(benches.measure_consensus(count, minutes))
    if table is not None:
        table.write_text(_markdown(results), encoding="utf-8")
    if as_json:
        found = [result.to_json() for result in results]
        print_json({"benches": found} if name == "all" or len(found) > 1 else found[0])
        return
    for result in results:
        click.echo(f"{result.bench}  {result.parameters}")
        for kind in (result.figures, result.limit):
            for figure, one in kind.items():
                click.echo(f"  {figure:<28} {one.value:>12,.10g} {one.unit}")


def _numbers(text: str | None, least: int, most: int) -> tuple[int, ...]:
    """The numbers in "4,7,10"."""
    parts = [] if text is None else text.split(",")
    if not all(part.isascii() and part.isdigit() and least <= int(part) <= most for part in parts):
        raise click.BadParameter(f"numbers from {least} to {most}, with commas between them")
    return tuple(map(int, parts))


def _markdown(results: list[Result]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Absolute figures depend on the machine: compare those of one run.",
        f"This run: Python {platform.python_version()}, {platform.machine()}.",
        "",
    ]
    for result in results:
        nodes = ""
        if "nodes" in result.parameters:
            nodes = f", {result.parameters['nodes']} {'processes' if result.bench == 'gossip' else 'validators'}"
        lines += [f"## {result.bench}{nodes}", "", f"Parameters: {result.parameters}", ""]
        lines += ["| figure | value | unit |", "|---|---:|---|"]
        lines += [f"| {name} | {one.value:,.10g} | {one.unit} |" for name, one in result.figures.items()]
        lines += [f"| limit: {name} | {one.value:,.10g} | {one.unit} |" for name, one in result.limit.items()]
        lines.append("")
    return "\n".join(lines)
