"""`fondaco sdl`: look at SDL files without a network."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fondaco.node.cli.output import credits, json_option


@click.group()
def sdl() -> None:
    """Check SDL files and see what they ask for."""


@sdl.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--mode",
    type=click.Choice(["strict", "go"]),
    default="strict",
    show_default=True,
    help="strict also holds files to the official schema; go is content with the rules.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], mode: str, as_json: bool) -> None:
    """Say what is wrong with FILES; with --json, one object a line. Exit code 1 if any is refused."""
    from fondaco.protocol.sdl import Mode, SdlError, parse

    refused = False
    for file in files:
        row: dict[str, object] = {"file": str(file), "ok": True, "errors": [], "warnings": []}
        try:
            stack = parse(file.read_bytes(), mode=Mode(mode))
            row |= {
                "warnings": [str(problem) for problem in stack.warnings],
                "version_hash": stack.version_hash.hex(),
                "groups_sha256": stack.groups_sha256.hex(),
            }
        except SdlError as error:
            refused = True
            row |= {"ok": False, "errors": [str(problem) for problem in error.problems]}
        if as_json:
            click.echo(json.dumps(row))
        elif row["ok"]:
            click.echo(f"{file}: good")
        else:
            for problem in row["errors"]:  # type: ignore[attr-defined]
                click.echo(f"{file}: {problem}")
    ctx.exit(1 if refused else 0)


@sdl.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def explain(file: Path) -> None:
    """Say what FILE orders, and what it may cost an hour at most."""
    from fondaco.protocol.sdl import max_price_per_hour, parse

    stack = parse(file.read_bytes())
    for spec in stack.specs:
        price = max_price_per_hour(list(spec.units))
        click.echo(f"group {spec.name}: at most {credits(price)}/h")
        for unit in spec.units:
            resources = unit.resources
            click.echo(
                f"  {unit.count} x {resources.cpu_milli / 1_000:g} CPU, {resources.memory_bytes / 2**20:g} MiB,"
                f" {resources.gpu_units} GPU, {len(resources.volumes)} volume(s)"
            )
