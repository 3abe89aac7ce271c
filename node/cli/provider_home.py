"""`fondaco provider init`, `run` and `status`: a provider's home, its node, and how it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fondaco.node.cli.node import log_json_option, verbose_option
from fondaco.node.cli.node import run as run_node
from fondaco.node.cli.output import credits, json_option, print_json
from fondaco.node.cli.provider_trial import provider_home


@click.command()
@provider_home
@json_option
def init(home: Path, as_json: bool) -> None:
    """Make the node in HOME a provider: look at the machine, write its [provider] with comments, make its key.

    HOME is what `fondaco node init` made. A [provider] that is there already is not touched.
    """
    from fondaco.node import config, machine
    from fondaco.node.files import write_atomically
    from fondaco.node.joining import ensure_key
    from fondaco.protocol import addresses
    from fondaco.protocol.errors import Refused

    settings, path = config.load(home), home / "node.toml"
    if settings.provider is not None:
        raise Refused("provider.exists", f"{path} has a [provider] already", hint="edit it")
    address = addresses.encode(ensure_key(settings, "provider"))
    found = machine.look(home)
    text = path.read_text(encoding="utf-8").rstrip("\n") + "\n" + machine.template(found)
    write_atomically(path, text.encode(), 0o644)
    told = {
        "config": str(path),
        "address": address,
        "cpu_milli": found.cpu_milli,
        "memory_bytes": found.memory_bytes,
        "storage_bytes": found.storage_bytes,
        "gpus": found.gpus,
        "unknown_gpus": found.unknown_gpus,
    }
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        click.echo(f"{key:<16} {value}")
    click.echo(
        f"next: prices in {path}, stake and credits for the address, then fondaco provider run --home {home}"
    )


@click.command()
@provider_home
@click.option("--stop-with-stdin", is_flag=True, help="Stop when standard input closes, as supervisors want.")
@verbose_option
@log_json_option
@click.pass_context
def run(context: click.Context, home: Path, stop_with_stdin: bool, verbose: bool, log_json: bool) -> None:
    """Run the provider in HOME, with its node, until Ctrl-C or SIGTERM.

    As `fondaco node run`, once its configuration is found good for a provider.
    """
    from fondaco.node import bid_trial, config
    from fondaco.node.runtime_settings import registries_of

    settings = config.load(home)
    bid_trial.settings(settings)
    assert settings.provider is not None, "checked there"
    registries_of(settings.provider)
    context.invoke(
        run_node,
        home=home,
        stop_with_stdin=stop_with_stdin,
        join_by_snapshot=False,
        trust=None,
        verbose=verbose,
        log_json=log_json,
    )


@click.command()
@provider_home
@click.option(
    "--answers", type=click.IntRange(0, 1_000), default=10, show_default=True, help="So many of its last answers."
)
@json_option
def status(home: Path, answers: int, as_json: bool) -> None:
    """Show how the provider in HOME does: registration, leases, earnings, books, last answers with their reasons.

    By its own files; what `market = true` collects is left out where it does not. Proven records: `provider show`.
    """
    from fondaco.node import config
    from fondaco.node.provider_status import status as look

    told = look(config.load(home), answers=answers)
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(_lines(told)))


def _lines(told: dict[str, Any]) -> Iterator[str]:
    from fondaco.node.cli.stake import _moment

    yield told["address"]
    yield f"  {'pricing':<20} {told['pricing']}"
    yield f"  {'promised, let':<20} {told['promised']}, {told['let']}"
    for name, used in told["used_permille"].items():
        yield f"  {name:<20} {used / 10:5.1f} % in use"
    if not told["market"]:
        yield "  no market database: set market = true for leases, earnings and answers"
        return
    registered = told["registered_at_ms"]
    bond = f", bond {told['bond_ustake']} ustake" if told["bond_ustake"] is not None else ""
    yield f"  {'registered':<20} {_moment(registered) if registered else 'not known'}{bond}"
    yield f"  {'earned':<20} {credits(told['earned_ucredit'] or 0)}"
    for state, count in told["leases"].items():
        yield f"  {'leases ' + state:<20} {count}"
    for one in told["answers"]:
        place = f"{_moment(one['seen_at_ms'])}  {one['order'][:12]} group {one['group']}"
        if one["answer"] == "bid":
            yield f"  {place}  bid {credits(one['price_per_hour_ucredit'])}/h"
            continue
        reasons = [f"{why['dimension']}: asked {why['asked']}, has {why['available']}" for why in one["reasons"]]
        yield f"  {place}  declined: {'; '.join(reasons)}"
