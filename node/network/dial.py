"""Connections and streams we ask for, in our own errors, and never without a deadline."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from fondaco.node.network.circuit import CircuitConnection, request
from fondaco.node.network.peers import Address, PeerId, circuit_of, endpoint, peer_of
from fondaco.node.network.stream import STREAM_ERRORS, Stream
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Unreachable
from fondaco.protocol.reach import circuit as circuit_wire

CAUSES = 16
"""How deep an error is looked into."""


@lru_cache(maxsize=limits.CONNECTIONS)
def identity(peer: PeerId) -> ID:
    """The library's own name of a peer; remembered, for reading base 58 takes it 70 us."""
    return ID.from_base58(peer)


async def dial(basic: Any, address: Address) -> None:
    """Connect to `address`; where it leads through a relay, that one must be connected.

    Raises `Unreachable` `network.unreachable`.

    (4) A peer that failed once is refused for a minute unless it is unblocked first. Its earlier addresses are
    forgotten, because only one per transport is tried, and not the newest.
    """
    peer = identity(peer_of(address))
    network = basic.get_network()
    circuit = circuit_of(address)
    if circuit is not None:
        if all(connection.is_closed for connection in network.get_connections(peer)):
            await _dial_through(basic, peer_of(circuit[0]), peer)
        return
    where = Multiaddr(endpoint(address).multiaddr())
    if not network.get_connections(peer):
        network.unblock_peer(peer)
        if basic.get_peerstore().has_peer(peer):
            basic.get_peerstore().clear_addrs(peer)
    try:
        with trio.fail_after(limits.DIAL_TIMEOUT_MS / 1000):
            await basic.connect(PeerInfo(peer, [where]))
    except (*STREAM_ERRORS, trio.TooSlowError) as error:
        raise Unreachable("network.unreachable", f"cannot connect to {address}: {root_of(error)}") from None


def root_of(error: BaseException) -> str:
    """What lies at the bottom of an error: the library wraps a refused connection again and again."""
    for _ in range(CAUSES):
        several = getattr(error, "errors", None) or getattr(error, "exceptions", None) or ()
        inner = error.__cause__ or next(iter(several), None) or error.__context__
        if isinstance(error, trio.TooSlowError) or not isinstance(inner, BaseException):
            break
        error = inner
    return str(error) if type(error) is OSError else type(error).__name__


async def _dial_through(basic: Any, relay: PeerId, target: ID) -> None:
    """Connect to `target` by a circuit. Noise is spoken from end to end: it proves the peer, and hides all."""
    where = f"{target} through {relay}"
    try:
        with trio.fail_after(limits.DIAL_TIMEOUT_MS / 1000):
            stream = await open_stream(basic, relay, circuit_wire.HOP)
            carrier = await request(stream, target)
            try:
                raw = CircuitConnection(carrier, is_initiator=True)
                await basic.get_network().upgrade_outbound_raw_conn(raw, target)
            except BaseException:
                await stream.reset()
                raise
    except (*STREAM_ERRORS, trio.TooSlowError) as error:
        raise Unreachable("network.unreachable", f"cannot connect to {where}: {type(error).__name__}") from None
    except (PeerFault, Unreachable) as error:
        raise Unreachable("network.unreachable", f"cannot connect to {where}: {error}") from None


async def open_stream(basic: Any, peer: PeerId, protocol: str) -> Stream:
    """A new stream. Raises `Unreachable` `stream.refused`, or `network.unreachable` without a living connection.

    The library would dial then; dialling is ours, and `Host` may hear a little late that a peer is gone.

    (6) After some 250 streams on a connection the library waits for ever; so there is always a deadline.
    """
    identified = identity(peer)
    if all(connection.is_closed for connection in basic.get_network().get_connections(identified)):
        raise Unreachable("network.unreachable", f"{peer} is not connected")
    try:
        with trio.fail_after(limits.OPEN_STREAM_TIMEOUT_MS / 1000):
            raw = await basic.new_stream(identified, [TProtocol(protocol)])
    except (*STREAM_ERRORS, trio.TooSlowError) as error:
        reason = f"{peer} opens no stream for {protocol}: {type(error).__name__}"
        raise Unreachable("stream.refused", reason) from None
    return Stream(raw, peer)
