"""`fondaco net`: a node's part in the network, over its HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fondaco.node.cli.node import node_home
from fondaco.node.cli.output import json_option, print_json

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.group()
def net() -> None:
    """See a node's peers, meshes and bans, and why a peer is not there.

    HOME is the folder of a node that runs and has its API switched on.
    """


@net.command()
@node_home
@json_option
def peers(home: Path, as_json: bool) -> None:
    """Show connected peers: direction, age, round trip, score, streams, queues and faults.

    The score's parts are those of gossipsub: P1 time in meshes, P2 messages brought first, P3 deliveries owed,
    P4 invalid messages, P5 the application, P6 many at one address, P7 broken promises. --json tells more.
    """
    import time

    from fondaco.node.net.words import peer_lines

    found, asked = list[Any](), dict[str, Any]()
    while True:
        page = _ask(home, "GET", "/net/peers", params={"limit": 1_000, **asked})
        found += page["items"]
        if page["next"] is None:
            break
        asked = {"cursor": page["next"]}
    _show({"peers": found}, as_json, lambda: peer_lines(found, now_ms=time.time_ns() // 1_000_000))


@net.command()
@node_home
@json_option
def mesh(home: Path, as_json: bool) -> None:
    """Show each topic: its mesh, fan-out, back-offs, subscribers outside, and what came of its messages."""
    import time

    from fondaco.node.net.words import mesh_lines

    found = _ask(home, "GET", "/net/mesh")
    _show({"topics": found}, as_json, lambda: mesh_lines(found, now_ms=time.time_ns() // 1_000_000))


@net.command()
@node_home
@json_option
def bans(home: Path, as_json: bool) -> None:
    """Show peers and networks that are kept out, by whom, why and until when."""
    from fondaco.node.net.words import ban_lines

    found = _ask(home, "GET", "/net/bans")
    _show({"bans": found}, as_json, lambda: ban_lines(found))


@net.command()
@click.argument("subject", metavar="PEER|NETWORK")
@node_home
@click.option("--for", "span", default="1h", show_default=True, help="How long: a number and s, m, h or d.")
@click.option("--reason", required=True, help="Why; it is shown wherever the ban is.")
@json_option
def ban(subject: str, home: Path, span: str, reason: str, as_json: bool) -> None:
    """Keep a peer or a network out, and end its connections.

    NETWORK is a /24, or of IPv6 a /48. The ban ends with its time or the node's next start. Only who can read
    the node's folder may do that.
    """
    from fondaco.node.net.words import ban_lines

    body = {"subject": subject, "reason": reason, "seconds": _seconds(span)}
    made = _ask(home, "POST", "/net/bans", json=body, as_operator=True)
    _show(made, as_json, lambda: ban_lines([made]))


@net.command()
@click.argument("subject", metavar="PEER|NETWORK")
@node_home
@json_option
def lift(subject: str, home: Path, as_json: bool) -> None:
    """Let a peer or a network in again that is banned, by hand or for its faults."""
    lifted = _ask(home, "DELETE", "/net/bans", params={"subject": subject}, as_operator=True)
    _show(lifted, as_json, lambda: [f"{lifted['subject']} may connect again"])


@net.command("why-not")
@click.argument("peer")
@node_home
@json_option
@click.pass_context
def why_not(context: click.Context, peer: str, home: Path, as_json: bool) -> None:
    """Say why PEER is not connected, not in a mesh, or not heard: everything that applies, with the numbers.

    Exit code 0 if nothing is in its way, 1 if something is. Each reason has a stable code.
    """
    from fondaco.node.net.words import why_lines

    answer = _ask(home, "GET", "/net/why-not", params={"peer": peer[:100]})
    _show(answer, as_json, lambda: why_lines(answer))
    if not answer["clear"]:
        context.exit(1)


def _show(answer: Any, as_json: bool, lines: Any) -> None:
    if as_json:
        print_json(answer)
    else:
        for line in lines():
            click.echo(line)


def _seconds(span: str) -> int:
    """Raises `click.BadParameter`."""
    number, unit = span[:-1], span[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 10 and unit in UNITS and int(number)):
        raise click.BadParameter(f"{span!r} is not a number and s, m, h or d, as in 90m", param_hint="--for")
    return int(number) * UNITS[unit]


def _ask(home: Path, method: str, path: str, *, as_operator: bool = False, **request: Any) -> Any:
    """The node's answer. Raises `Refused` with what it says, or `Unreachable` `node.unreachable`."""
    import httpx

    from fondaco.node import config
    from fondaco.node.operator_token import read_token
    from fondaco.protocol.errors import Refused, Unreachable

    settings = config.load(home)
    if not settings.api:
        raise Refused(
            "node.no_api", f"{settings.name} has its API switched off", hint='set api = "127.0.0.1:PORT"'
        )
    headers = {"Authorization": f"Bearer {read_token(settings.data)}"} if as_operator else {}
    try:
        answer = httpx.request(method, f"http://{settings.api}{path}", headers=headers, timeout=10, **request)
        told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unreachable("node.unreachable", f"{settings.name} does not answer: {error}") from None
    if answer.is_error:
        raise Refused(told["code"], told["message"], hint=told["hint"])
    return told
