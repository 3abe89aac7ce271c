"""`fondaco node`: one node of a network."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from fondaco.node.cli.output import json_option, print_json, progress

node_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The node's folder.",
)

verbose_option = click.option("--verbose", is_flag=True, help="Log every step.")
log_json_option = click.option("--log-json", is_flag=True, help="Log one JSON object a line, for machines.")


@click.group()
def node() -> None:
    """Run a node, or ask one how it is."""


@node.command()
@node_home
@click.option("--stop-with-stdin", is_flag=True, help="Stop when standard input closes, as supervisors want.")
@click.option("--join-by-snapshot", is_flag=True, help="Begin with peers' newest snapshot, not with all blocks.")
@click.option("--trust", help="HEIGHT:HASH of a header you vouch for; needed to join where genesis is too old.")
@verbose_option
@log_json_option
def run(
    home: Path, stop_with_stdin: bool, join_by_snapshot: bool, trust: str | None, verbose: bool, log_json: bool
) -> None:
    """Run the node in HOME until Ctrl-C or SIGTERM.

    When it serves (a provider: once it is registered) it prints one line of JSON: name, chain, height, address.
    """
    from dataclasses import replace

    import trio

    from fondaco.node import config, logs

    logs.configure(verbose=verbose, as_json=log_json)
    settings = config.load(home)
    if join_by_snapshot:
        settings = replace(settings, join_by_snapshot=True)
    if trust is not None:
        settings = replace(settings, trust=trust)
    trio.run(_run, settings, stop_with_stdin)


async def _run(settings: Any, stop_with_stdin: bool) -> None:
    import gc
    import signal

    import trio

    from fondaco.node.app import open_node

    async with trio.open_nursery() as nursery:
        if stop_with_stdin:
            nursery.start_soon(_stop_at_end_of_input, nursery)
        nursery.start_soon(_stop_at_signal, nursery, (signal.SIGTERM, signal.SIGINT))
        async with open_node(settings) as node:
            await node.ready.wait()
            gc.freeze()  # what is loaded by now stays: looking through it took a node up to 50 ms each time
            status = node.status()
            ready = {key: status[key] for key in ("name", "chain", "height", "peer")}
            click.echo(json.dumps({**ready, "addresses": node.reach.addresses()}))
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
    from fondaco.node import config

    answer = _ask(config.load(home), "/status")
    if as_json:
        print_json(answer)
        return
    for key, value in answer.items():
        click.echo(f"{key:<16} {value}")


@node.command()
@node_home
@json_option
def health(home: Path, as_json: bool) -> None:
    """Whether the node in HOME does what it is there for; what does not makes the exit code 1.

    Its HTTP API is asked. The newest block is fresh, there are peers, there is room on the disk; a provider
    answers orders, and what runs its workloads answers it.
    """
    from fondaco.node import config

    parts = _ask(config.load(home), "/health")["parts"]
    if as_json:
        print_json({"healthy": True, "parts": parts})
        return
    for name, detail in parts.items():
        click.echo(f"{name:<16} {detail}")


def _ask(settings: Any, path: str) -> Any:
    """Raises `Refused` with the code that the node answers, `node.no_api`; or `Unreachable`."""
    import httpx

    from fondaco.protocol.errors import Refused, Unreachable

    if not settings.api:
        raise Refused(
            "node.no_api", f"{settings.name} has its API switched off", hint='set api = "127.0.0.1:PORT"'
        )
    try:
        answer = httpx.get(f"http://{settings.api}{path}", timeout=10)
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unreachable("node.unreachable", f"{settings.name} does not answer: {error}") from None
    if answer.is_success:
        return found
    raise Refused(found["code"], found["message"], hint=found["hint"])


@node.command()
@node_home
@click.option("--to", type=click.IntRange(min=0), help="Stop at this height instead of the newest block.")
@json_option
@click.pass_context
def replay(context: click.Context, home: Path, to: int | None, as_json: bool) -> None:
    """Execute all blocks of the node in HOME again from genesis, and compare what comes of each.

    The node may be running; nothing is changed. At the first height where the database says something else the
    command ends with exit code 1.
    """
    import tempfile

    from fondaco.node import config
    from fondaco.node.genesis_file import read_genesis, state_path
    from fondaco.node.replay import Differs
    from fondaco.node.replay import replay as execute
    from fondaco.node.storage import ChainStore
    from fondaco.protocol.scalars import Height

    settings = config.load(home)
    genesis, source = read_genesis(settings.genesis), ChainStore.view(settings.data / "chain.db")
    with ExitStack() as closing:
        closing.callback(source.close)
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="fondaco-replay-"))
        into = ChainStore.open(Path(folder, "chain.db"))
        closing.callback(into.close)
        last = None if to is None else Height(to)
        try:
            found = execute(
                source, genesis, state_path(settings.genesis), into, to=last, progress=progress("replayed")
            )
        except Differs as difference:
            if not as_json:
                raise
            print_json(
                {
                    "equal": False,
                    "height": difference.height,
                    "code": difference.code,
                    "message": difference.message,
                }
            )
            context.exit(1)
    answer = {
        "chain": genesis.chain,
        "first": found.first,
        "last": found.last,
        "blocks": found.blocks,
        "transactions": found.transactions,
        "hash": found.hash.hex(),
        "state_root": found.state_root.hex(),
        "state_compared": found.state_compared,
    }
    if as_json:
        print_json({"equal": True, **answer})
        return
    for key, value in answer.items():
        click.echo(f"{key:<16} {value}")


@node.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The node's folder.")
@click.option(
    "--genesis",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="What the chain begins with; its records' file, if there is one, lies beside it.",
)
@click.option("--name", default="node", show_default=True, help="What the node calls itself.")
@click.option(
    "--listen",
    default="127.0.0.1:4001",
    show_default=True,
    help="Address for other nodes, host:port; '' for none.",
)
@click.option("--peer", "peers", multiple=True, help="Multiaddress of a node to keep connected; may be repeated.")
@click.option("--relay", "relays", multiple=True, help="Multiaddress of a relay to be reached through; likewise.")
@click.option("--announce", multiple=True, help="Public address that others are told, host:port; may be repeated.")
@click.option("--validator", is_flag=True, help="Take part in agreement, with the key `validator`.")
@click.option("--api", default="", help="Loopback address of the HTTP API, host:port; none unless given.")
@json_option
def init(
    home: Path,
    genesis: Path,
    name: str,
    listen: str,
    peers: tuple[str, ...],
    relays: tuple[str, ...],
    announce: tuple[str, ...],
    validator: bool,
    api: str,
    as_json: bool,
) -> None:
    """Make the home of a node of the chain that begins with GENESIS.

    Keys that HOME/keys holds already are used; those that are missing are made. They are protected by
    $FONDACO_PASSPHRASE, or by what the file $FONDACO_PASSPHRASE_FILE or HOME/passphrase says.
    """
    from fondaco.node.config import NodeConfig
    from fondaco.node.joining import make_home

    settings = NodeConfig(
        home=home,
        name=name,
        listen=listen,
        peers=peers,
        relays=relays,
        announce=announce,
        kad=True,
        validator=validator,
        api=api,
    )
    made = make_home(settings, genesis)
    if as_json:
        print_json(made)
        return
    for key, value in made.items():
        click.echo(f"{key:<16} {value}")
