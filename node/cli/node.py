"""`fondaco node`: one node of a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from fondaco.node.cli.output import json_option, print_json

node_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The node's folder.",
)


@click.group()
def node() -> None:
    """Run a node, or ask one how it is."""


@node.command()
@node_home
@click.option("--stop-with-stdin", is_flag=True, help="Stop when standard input closes, as supervisors want.")
@click.option("--verbose", is_flag=True, help="Log every step.")
def run(home: Path, stop_with_stdin: bool, verbose: bool) -> None:
    """Run the node in HOME until Ctrl-C or SIGTERM.

    When it serves (a provider: once it is registered) it prints one line of JSON: name, chain, height, address.
    """
    import trio

    from fondaco.node import config, logs

    logs.configure(verbose=verbose)
    trio.run(_run, config.load(home), stop_with_stdin)


async def _run(settings: Any, stop_with_stdin: bool) -> None:
    import signal

    import trio

    from fondaco.node.app import open_node

    async with trio.open_nursery() as nursery:
        if stop_with_stdin:
            nursery.start_soon(_stop_at_end_of_input, nursery)
        nursery.start_soon(_stop_at_signal, nursery, (signal.SIGTERM, signal.SIGINT))
        async with open_node(settings) as node:
            await node.ready.wait()
            status = node.status()
            ready = {key: status[key] for key in ("name", "chain", "height", "peer")}
            click.echo(json.dumps({**ready, "addresses": node.host.addresses()}))
            sys.stdout.flush()
            await trio.sleep_forever()


async def _stop_at_end_of_input(nursery: Any) -> None:
    import trio

    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stdin:
        async for _ in stdin:
            pass
    nursery.cancel_scope.cancel()


async def _stop_at_signal(nursery: Any, signals: tuple[Any, ...]) -> None:
    import trio

    with trio.open_signal_receiver(*signals) as received:
        async for _ in received:
            nursery.cancel_scope.cancel()


@node.command()
@node_home
@json_option
def status(home: Path, as_json: bool) -> None:
    """Ask the node in HOME, over its HTTP API, how it is."""
    import httpx

    from fondaco.node import config
    from fondaco.protocol.errors import Refused, Unreachable

    settings = config.load(home)
    if not settings.api:
        raise Refused(
            "node.no_api", f"{settings.name} has its API switched off", hint='set api = "127.0.0.1:PORT"'
        )
    try:
        answer = httpx.get(f"http://{settings.api}/status", timeout=5).raise_for_status().json()
    except httpx.HTTPError as error:
        raise Unreachable("node.unreachable", f"{settings.name} does not answer: {error}") from None
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        click.echo(f"{key:<16} {value}")
