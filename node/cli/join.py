"""`fondaco join`: into a network that others run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import home_option, json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.node.tenant.joined import Joined


@click.command()
@click.argument("genesis", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--node",
    "nodes",
    multiple=True,
    required=True,
    metavar="ADDRESS",
    help="Where a node of the network is, as /ip4/.../tcp/.../p2p/...; may be given several times.",
)
@click.option(
    "--trust",
    metavar="HEIGHT:HASH",
    default="",
    help="A header that you vouch for; needed where GENESIS is older than the trusting period.",
)
@home_option
@json_option
def join(genesis: Path, nodes: tuple[str, ...], trust: str, home: Path, as_json: bool) -> None:
    """Make HOME one from which you rent on the network that begins with the file GENESIS.

    GENESIS is what you trust: have it from somebody you do trust, or compare its hash. A node is believed nothing,
    so any will do; those it names are asked as well, until there are three. Nothing is written before the newest
    header is verified and another node, if there is one, confirms it. Done again it adds nodes.
    """
    from fondaco.consensus.proof import parse_header_id
    from fondaco.node.cli.tenant import run
    from fondaco.node.keys.keystore import Keystore
    from fondaco.node.tenant.connection import join as join_network
    from fondaco.node.tenant.gathering import NODES

    say("asking the nodes named, and those that they name")
    trusted = parse_header_id(trust) if trust else None
    joined: Joined = run(partial(join_network, home, genesis, nodes, trusted=trusted))
    has_key = bool(Keystore(home / "keys").list())
    if as_json:
        print_json(
            {
                "home": str(home),
                "chain": joined.chain,
                "height": joined.height,
                "hash": joined.hash.hex(),
                "asked": joined.asked,
                "nodes": list(joined.nodes),
            }
        )
        return
    click.echo(f"{joined.chain}, verified up to {joined.height}:{joined.hash.hex()}")
    click.echo(f"nodes asked: {joined.asked}; known in {home}: {len(joined.nodes)}")
    for node in joined.nodes:
        click.echo(f"  {node}")
    if joined.asked < NODES:
        say(f"fewer than {NODES} nodes answer: one that hides bids may go unnoticed; name others with --node")
    click.echo(f"next: fondaco {'deploy FILE' if has_key else 'keys create tenant'} --home {home}")
