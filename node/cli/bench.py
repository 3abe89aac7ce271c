"""`fondaco bench`: figures, with the machine's limit beside them."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.node.bench import Result

NAMES = ("crypto", "e2e", "light", "all")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the figures as a Markdown table to this file.",
)
@json_option
def bench(name: str, table: Path | None, as_json: bool) -> None:
    """Measure NAME, or all there is, on this machine."""
    from fondaco.node import logs
    from fondaco.node.bench import BENCHES

    logs.configure_quiet()
    results = []
    for each in BENCHES if name == "all" else (name,):
        say(f"measuring {each}")
        results.append(BENCHES[each]())
    if table is not None:
        table.write_text(_markdown(results), encoding="utf-8")
    if as_json:
        found = [result.to_json() for result in results]
        print_json({"benches": found} if name == "all" else found[0])
        return
    for result in results:
        click.echo(f"{result.bench}  {result.parameters}")
        for kind in (result.figures, result.limit):
            for figure, one in kind.items():
                click.echo(f"  {figure:<28} {one.value:>12,.10g} {one.unit}")


def _markdown(results: list[Result]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Absolute figures depend on the machine: compare those of one run.",
        f"This run: Python {platform.python_version()}, {platform.machine()}.",
        "",
    ]
    for result in results:
        lines += [f"## {result.bench}", "", f"Parameters: {result.parameters}", ""]
        lines += ["| figure | value | unit |", "|---|---:|---|"]
        lines += [f"| {name} | {one.value:,.10g} | {one.unit} |" for name, one in result.figures.items()]
        lines += [f"| limit: {name} | {one.value:,.10g} | {one.unit} |" for name, one in result.limit.items()]
        lines.append("")
    return "\n".join(lines)
