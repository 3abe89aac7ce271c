"""`fondaco sdl`: look at SDL files without a network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fondaco.node.cli.output import credits, json_option, print_json, say
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

if TYPE_CHECKING:
    from fondaco.protocol.sdl import Stack

F = TypeVar("F", bound=Callable[..., Any])
START = Path(__file__).with_name("start.yaml")
"""What `init` writes."""
HOURS = {"hour": 1, "day": 24, "month": 730}
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


def _mode_option(function: F) -> F:
    return click.option(
        "--mode",
        type=click.Choice(["strict", "go"]),
        default="strict",
        show_default=True,
        help="strict also holds files to the official schema; go is content with the rules.",
    )(function)


@click.group()
def sdl() -> None:
    """Check SDL files and see what they ask for."""


@sdl.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@_mode_option
@json_option
@click.pass_context
def check(ctx: click.Context, files: tuple[Path, ...], mode: str, as_json: bool) -> None:
    """Say what is wrong with FILES; with --json, one object a line. Exit code 1 if any is refused."""
    refused = 0
    for file in files:
        row, lines = _judged(file, mode)
        refused += not row["ok"]
        for line in [json.dumps(row)] if as_json else lines:
            click.echo(line)
    if refused and len(files) > 1:
        say(f"{refused} of {len(files)} refused")
    ctx.exit(1 if refused else 0)


@sdl.command()
@_file
@_mode_option
def manifest(file: Path, mode: str) -> None:
    """Print the manifest of FILE as canonical JSON: its SHA-256 is the version hash."""
    from fondaco.protocol.manifest.form import to_json

    _print_exactly(to_json(_stack(file, mode).manifest))


@sdl.command()
@_file
@_mode_option
def groups(file: Path, mode: str) -> None:
    """Print the groups of FILE as compact JSON with sorted keys: its SHA-256 is `groups_sha256`."""
    from fondaco.protocol.manifest.form import canonical

    _print_exactly(canonical(_stack(file, mode).groups_plain(), escape=False))


@sdl.command()
@_file
@_mode_option
@json_option
def explain(file: Path, mode: str, as_json: bool) -> None:
    """Say what FILE orders, and what it may cost an hour at most."""
    told = _explained(_stack(file, mode))
    if as_json:
        print_json(told)
        return
    for line in _explanation(told):
        click.echo(line)


@sdl.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("deploy.yaml"))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(file: Path, force: bool) -> None:
    """Write a commented file to start from, deploy.yaml unless FILE says otherwise."""
    from fondaco.node.files import write_atomically

    try:
        write_atomically(file, START.read_bytes(), 0o644, replace=force)
    except FileExistsError:
        raise Refused("sdl.exists", f"{file} is there already", hint="another name, or --force") from None
    except OSError as error:
        raise Refused("sdl.unwritable", f"{file}: {error.strerror}") from None
    click.echo(f"wrote {file}; look at it, then: fondaco sdl explain {file}")


@sdl.command()
def schema() -> None:
    """Print the JSON schema of the language, for editors that check while one types."""
    from fondaco.protocol.sdl.schema import json_schema

    print_json(json_schema())


# Files and their problems


def _read(file: Path) -> bytes:
    """No more of a file than is needed to see that it is too long. Raises `Refused` `sdl.unreadable`."""
    try:
        with file.open("rb") as source:
            return source.read(limits.SDL_BYTES + 1)
    except OSError as error:
        raise Refused("sdl.unreadable", f"{file}: {error.strerror}", hint="check the path") from None


def _stack(file: Path, mode: str) -> Stack:
    """The accepted file. Where it is refused its problems are shown, and `Refused` with the first is raised."""
    from fondaco.protocol.sdl import Mode, SdlError, parse

    text = _read(file)
    try:
        return parse(text, mode=Mode(mode))
    except SdlError as error:
        for line in _shown(file, text, error):
            say(line)
        raise Refused(error.code, f"{file} has {len(error.problems)} problem(s)", hint=error.hint) from None


def _judged(file: Path, mode: str) -> tuple[dict[str, Any], list[str]]:
    """What `check` says of a file: to programs, and to people."""
    from fondaco.protocol.sdl import Mode, SdlError, parse

    row: dict[str, Any] = {"file": str(file), "ok": False, "errors": [], "warnings": []}
    row |= {"version_hash": None, "groups_sha256": None}
    try:
        text = _read(file)
    except Refused as refusal:
        row["errors"] = [_no_place(refusal)]
        return row, [f"{refusal.message} [{refusal.code}]"]
    try:
        stack = parse(text, mode=Mode(mode))
    except SdlError as error:
        row["errors"] = [problem.plain() for problem in error.problems]
        return row, list(_shown(file, text, error))
    row |= {
        "ok": True,
        "warnings": [problem.plain() for problem in stack.warnings],
        "version_hash": stack.version_hash.hex(),
        "groups_sha256": stack.groups_sha256.hex(),
    }
    return row, [f"{file}: good", *(f"{file}:{warning} (warning)" for warning in stack.warnings)]


def _no_place(refusal: Refused) -> dict[str, Any]:
    from fondaco.protocol.sdl import Problem

    code = refusal.code.removeprefix("sdl.")
    return Problem(code=code, path="", line=0, column=0, message=refusal.message, suggestion=refusal.hint).plain()


def _shown(file: Path, text: bytes, error: Any) -> Iterator[str]:
    from fondaco.node.cli.excerpt import excerpt

    decoded = text.decode("utf-8", "replace")
    for problem in error.problems:
        place = f"{file}:{problem.line}:{problem.column}" if problem.line else str(file)
        where = f"{problem.path}: " if problem.path else ""
        yield f"{place}: {where}{problem.message} [{problem.code}]"
        yield from excerpt(decoded, problem.line, problem.column)
        if problem.suggestion:
            yield f"  try: {problem.suggestion}"


def _print_exactly(data: bytes) -> None:
    """The bytes as they are hashed, to a file or a pipe; a person's prompt gets a line of its own."""
    click.echo(data, nl=sys.stdout.isatty())


# What a file orders


def _explained(stack: Stack) -> dict[str, Any]:
    from fondaco.protocol.sdl import max_price_per_hour

    found = []
    for spec, group in zip(stack.specs, stack.manifest, strict=True):
        price = max_price_per_hour(list(spec.units))
        units = [
            {
                "count": unit.count,
                "cpu": unit.resources.cpu_milli / 1_000,
                "memory_bytes": unit.resources.memory_bytes,
                "gpu": unit.resources.gpu_units,
                "gpu_models": [attribute.key for attribute in unit.resources.gpu_attributes],
                "volumes_bytes": [volume.size_bytes for volume in unit.resources.volumes],
            }
            for unit in spec.units
        ]
        services = [{"name": one.name, "image": one.image, "count": one.count} for one in group.services]
        found.append(
            {
                "group": spec.name,
                "max_price_per_hour": price,
                "services": services,
                "units": units,
                "attributes": {attribute.key: attribute.value for attribute in spec.attributes},
                "signed_by": {"all_of": spec.all_of or [], "any_of": spec.any_of or []},
            }
        )
    return {
        "groups": found,
        "max_price_per_hour": sum(group["max_price_per_hour"] for group in found),
        "reclamation_ms": stack.reclamation_ms,
        "warnings": [problem.plain() for problem in stack.warnings],
    }


def _explanation(told: dict[str, Any]) -> Iterator[str]:
    for group in told["groups"]:
        yield f"group {group['group']}: at most {credits(group['max_price_per_hour'])}/h"
        for service in group["services"]:
            yield f"  {service['count']} x {service['name']}, image {service['image']}"
        for unit in group["units"]:
            volumes = ", ".join(f"{size / 2**20:g} MiB" for size in unit["volumes_bytes"])
            yield (
                f"  {unit['count']} x {unit['cpu']:g} CPU, {unit['memory_bytes'] / 2**20:g} MiB memory,"
                f" {unit['gpu']} GPU, disk {volumes}"
            )
            if unit["gpu_models"]:
                yield f"    GPU any of {', '.join(unit['gpu_models'])}"
        for key, value in group["attributes"].items():
            yield f"  only where {key} = {value}"
        for which, words in (("all_of", "all of"), ("any_of", "any of")):
            if group["signed_by"][which]:
                yield f"  only where audited by {words} {', '.join(group['signed_by'][which])}"
    costs = (f"{credits(told['max_price_per_hour'] * hours)} a {name}" for name, hours in HOURS.items())
    yield f"in all at most {', '.join(costs)}"
