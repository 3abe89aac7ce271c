"""`fondaco demo`: the main job, once, with everything it needs."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from fondaco.node.cli.output import credits, json_option, print_json


@click.command()
@click.option(
    "--validators", type=click.IntRange(1, 16), default=4, show_default=True, help="How many nodes agree."
)
@click.option("--providers", type=click.IntRange(1, 16), default=2, show_default=True, help="How many rent out.")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), help="Keep the network in this new folder."
)
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Deploy this SDL file instead."
)
@json_option
def demo(validators: int, providers: int, home: Path | None, file: Path | None, as_json: bool) -> None:
    """Start a local network, deploy a web server on it, use it, close it, and show what it took.

    Real processes, real agreement, a real sandbox. Progress goes to standard error.
    """
    from fondaco.node import forked

    forked.prepare()
    import trio

    from fondaco.node import logs
    from fondaco.node.demo import HELLO, run_demo

    logs.configure_quiet()
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.1f}] {text}", err=True)

    kept = home is not None
    where = home or Path(tempfile.mkdtemp(prefix="fondaco-demo-"))
    done = False
    try:
        figures: dict[str, Any] = trio.run(_run, run_demo, where, validators, providers, file or HELLO, say)
        done = True
    finally:
        if done and not kept:
            shutil.rmtree(where)
        elif not kept:
            say(f"the network's folder, with its logs, is left in {where}")
    if as_json:
        print_json(figures)
    else:
        _show(figures)


async def _run(job: Any, home: Path, validators: int, providers: int, file: Path, say: Any) -> Any:
    return await job(home, validators=validators, providers=providers, file=file, say=say)


def _show(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="The main job, once", show_header=False)
    finality = figures["finality_ms"]
    for name, value in (
        ("order -> first bid", f"{figures['order_to_first_bid_ms']} ms"),
        ("order -> lease", f"{figures['order_to_lease_ms']} ms"),
        ("order -> running", f"{figures['order_to_running_ms']} ms"),
        ("order -> first byte", f"{figures['order_to_first_byte_ms']} ms"),
        ("finality p50 / p99", f"{finality['p50']} / {finality['p99']} ms"),
        ("bids / declines", f"{figures['bids']} / {figures['declines']}"),
        ("HTTP status", str(figures["http_status"])),
        ("paid", credits(figures["paid_ucredit"])),
        ("refunded", credits(figures["refunded_ucredit"])),
        ("supply conserved", "yes" if figures["supply_conserved"] else "NO"),
        ("whole demo", f"{figures['wall_s']} s"),
    ):
        table.add_row(name, value)
    Console().print(table)
