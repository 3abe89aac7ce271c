"""A stream through a relay, as a connection that the swarm can encrypt and multiplex like one over TCP.

The decision on py-libp2p's own circuits is in docs/decisions/0032-ways-of-reach.md.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.abc import IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from fondaco.node.network.delimited import read_message, write_message
from fondaco.node.network.stream import STREAM_ERRORS, Stream
from fondaco.protocol import limits
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import Answer, Connect, Status, decode_hop, encode_hop

READ_BYTES = 64 * limits.KIB


class StreamCarrier:
    """The raw bytes of a circuit; a `secured.Carrier`."""

    def __init__(self, stream: Stream, begun: bytes = b"") -> None:
        self.stream = stream
        self._begun = begun
        """Came together with the relay's last message, and belongs to the circuit."""

    def send_now(self, data: bytes) -> int:
        return 0

    async def send_rest(self, data: bytes) -> None:
        try:
            await self.stream.write(data)
        except Unreachable as error:
            raise _gone(error) from error

    async def receive(self, size: int = READ_BYTES) -> bytes:
        if self._begun:
            data, self._begun = self._begun[:size], self._begun[size:]
            return data
        try:
            return await self.stream.read(size)
        except Unreachable as error:
            raise _gone(error) from error


def _gone(error: Unreachable) -> ConnectionClosedError:
    return ConnectionClosedError(f"the circuit is gone: {error.code}", transport="circuit")


class CircuitConnection(IRawConnection):  # type: ignore[misc]
    """What the library upgrades as if it were a socket. It has no address of the peer's."""

    def __init__(self, carrier: StreamCarrier, *, is_initiator: bool) -> None:
        self.carrier = carrier
        self.is_initiator = is_initiator

    async def read(self, n: int | None = None) -> bytes:
        return await self.carrier.receive(n or READ_BYTES)

    async def write(self, data: bytes) -> None:
        await self.carrier.send_rest(data)

    async def close(self) -> None:
        await self.carrier.stream.reset()

    def get_remote_address(self) -> None:
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        return [Multiaddr(f"/p2p/{self.carrier.stream.peer}/p2p-circuit")]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.RELAYED


async def request(stream: Stream, target: ID) -> StreamCarrier:
    """Ask the relay at the other end of `stream` to lead us to `target`.

    Raises `Unreachable` `relay.refused` or `stream.*`, and `PeerFault`; the stream is then reset.
    """
    try:
        await write_message(stream, encode_hop(Connect(peer=target.to_bytes())))
        data, begun = await read_message(stream, limit=bounds.CIRCUIT_MESSAGE_BYTES)
        answer = decode_hop(data)
        if not isinstance(answer, Answer) or answer.status != Status.OK:
            raise Unreachable("relay.refused", f"{stream.peer} leads us nowhere: {answer}")
    except BaseException:
        await stream.reset()
        raise
    return StreamCarrier(stream, begun)


async def accept(swarm: Any, carrier: StreamCarrier) -> None:
    """Take a circuit in as an inbound connection, and return when it has ended. Raises `Unreachable`."""
    raw = CircuitConnection(carrier, is_initiator=False)
    began = trio.current_time()
    try:
        await swarm.upgrade_inbound_raw_conn(raw, raw.get_transport_addresses()[0])
    except SwarmException:
        return  # that is how the hardened swarm ends an inbound connection
    except STREAM_ERRORS as error:
        lasted = trio.current_time() - began
        raise Unreachable("circuit.ended", f"{type(error).__name__} after {lasted:.0f} s") from None
