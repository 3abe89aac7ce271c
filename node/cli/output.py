"""What commands share: the options every command takes, and the two ways of printing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from fondaco.node.cli.completion import keys

PROGRESS_S = 2.0
KEY = "fondaco.node.cli.key"
"""Where a command's context holds what `--key` said."""
F = TypeVar("F", bound=Callable[..., Any])


def default_home() -> Path:
    """`$FONDACO_HOME`, else `~/.fondaco/testnet`."""
    return Path(os.environ.get("FONDACO_HOME") or Path.home() / ".fondaco" / "testnet")


def home_option(function: F) -> F:
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_home,
        show_default="$FONDACO_HOME or ~/.fondaco/testnet",
        help="Folder of the network this command talks to.",
    )(function)


def key_option(function: F) -> F:
    """`--key NAME`: `unlocking.open_key` asks for it, so that commands need not pass it on."""

    def keep(context: click.Context, _: click.Parameter, name: str | None) -> None:
        if name is not None:
            context.meta[KEY] = name

    return click.option(
        "--key",
        envvar="FONDACO_KEY",
        metavar="NAME",
        expose_value=False,
        callback=keep,
        shell_complete=keys,
        help="Which key of the home acts: else $FONDACO_KEY, what `keys use` said, or `tenant`.",
    )(function)


def tenant_home(function: F) -> F:
    """What every command takes that acts as a tenant: `--home` and `--key`."""
    return home_option(key_option(function))


def chosen_key() -> str | None:
    """What `--key` or $FONDACO_KEY says."""
    context = click.get_current_context(silent=True)
    name: str | None = None if context is None else context.meta.get(KEY)
    return name


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(function)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=False))


def say(text: str) -> None:
    """A line of progress: on standard error, so that results can be piped."""
    click.echo(text, err=True)


def progress(what: str) -> Callable[[int, int], None]:
    """Says how far something is, of how much, but not more often than a person can read."""
    said = time.monotonic()

    def tell(done: int, whole: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_S:
            said = time.monotonic()
            say(f"{what} {done} of {whole}")

    return tell


def credits(amount: int) -> str:
    """Micro-credits as a person reads them, exactly."""
    whole, part = divmod(abs(amount), 1_000_000)
    return "-" * (amount < 0) + f"{whole}.{part:06d}".rstrip("0").rstrip(".") + " credits"


def moment(time_ms: int) -> str:
    """A time as a date, in UTC."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def size(amount: int) -> str:
    """Bytes as a person reads them: `23.4 MiB`."""
    value, unit = float(amount), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1_024:
            break
        value, unit = value / 1_024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"
