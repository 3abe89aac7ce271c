"""The home of a tenant of a network that others run: its genesis, and in `nodes.json` whom to ask.

A genesis is all there is to trust; the nodes are believed nothing. Those that a tenant was told of are kept in
front, and those found by asking behind them, so that the home outlives the node that it came by.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fondaco.consensus.ledger.genesis import Genesis
from fondaco.node import config, joining, testnet
from fondaco.node.files import write_atomically
from fondaco.node.genesis_file import read_genesis
from fondaco.node.network.peers import Address, peer_of
from fondaco.protocol.errors import Refused

log = logging.getLogger("fondaco.tenant")

KEPT = 16
"""As many addresses are remembered."""
MAX_BYTES = 65_536
GENESIS = "genesis.json"
NODES = "nodes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What became of joining a network."""

    chain: str
    height: int
    """Of the newest header, verified."""
    hash: bytes
    """Of that header."""
    nodes: tuple[str, ...]
    """Where the home's nodes are, those told first."""
    asked: int
    """How many of them were asked, and not found out."""


def nodes_of(home: Path) -> list[str]:
    """Whom to ask: who was told or found at joining; a local network's nodes; a node's own, and its peers.

    Raises `Refused` `testnet.missing` or `nodes.malformed`.
    """
    if (home / NODES).exists():
        return _read(home / NODES)
    if (home / "testnet.json").exists() or not (home / "node.toml").exists():
        return testnet.Plan.load(home).addresses()
    settings = config.load(home)
    return [*joining.addresses_of(settings), *settings.peers]


def admit(home: Path, genesis: Path, nodes: Sequence[str]) -> Genesis:
    """The genesis, once it is sure that `home` can join with it. Nothing is changed.

    Raises `Refused` `genesis.missing`, `genesis.malformed`, `network.address`, `join.nodes`, `join.own_network` or
    `join.other_chain`.
    """
    found = read_genesis(genesis)
    for node in nodes:
        peer_of(Address(node))
    if not nodes:
        raise Refused("join.nodes", "no node was named", hint="name one that runs with --node: it tells of others")
    if (home / "testnet.json").exists() or (home / "node.toml").exists():
        raise Refused(
            "join.own_network", f"{home} has a network or a node of its own", hint="choose another --home"
        )
    if (home / GENESIS).exists():
        there = read_genesis(home / GENESIS)
        if there.hash() != found.hash():
            raise Refused(
                "join.other_chain",
                f"{home} belongs to {there.chain}, and {genesis} is {found.chain}",
                hint="choose another --home: a home holds the deployments of one network",
            )
    return found


def keep(home: Path, genesis: Path, told: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """Make `home` one of this network, or add to the nodes that it knows; those it has now.

    Raises `Refused` `join.unwritable`.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (home / GENESIS).exists():
            write_atomically(home / GENESIS, genesis.read_bytes(), 0o644)
        return _write(home, told, _known(home), found)
    except OSError as error:
        raise Refused("join.unwritable", f"{home}: {error}") from None


def remember(home: Path, found: Sequence[str]) -> None:
    """Keep further nodes in a home that has joined a network; others know theirs."""
    if not (home / NODES).exists():
        return
    try:
        _write(home, _known(home), found)
    except OSError as error:
        log.warning("%s: the nodes that were found are not remembered: %s", home, error)


def _known(home: Path) -> list[str]:
    """Nothing where there is no list, or one that is broken: it is written anew."""
    try:
        return _read(home / NODES)
    except Refused:
        return []


def _write(home: Path, *nodes: Sequence[str]) -> tuple[str, ...]:
    kept = tuple(dict.fromkeys(chain.from_iterable(nodes)))[:KEPT]
    document = json.dumps({"nodes": kept}, indent=2).encode()
    if not (home / NODES).exists() or (home / NODES).read_bytes() != document:
        write_atomically(home / NODES, document, 0o644)
    return kept


def _read(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            nodes = json.loads(file.read(MAX_BYTES))["nodes"]
        if type(nodes) is not list or not nodes or len(nodes) > KEPT:
            raise ValueError("not a list of addresses")
        for node in nodes:
            peer_of(Address(node))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, Refused) as error:
        raise Refused("nodes.malformed", f"{path}: {error}", hint="`fondaco join` writes it anew") from None
    return [str(node) for node in nodes]
