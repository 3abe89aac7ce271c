"""A relay: it keeps places for peers that nobody can dial, and leads others to them.

What it grants is bounded by `reach.relaying.Terms`: places, circuits, their life and their bytes. It sees whom
it leads to whom and how much they say, but not what: Noise is spoken between the ends.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from fondaco.node.network.delimited import read_message, write_message
from fondaco.node.network.host import Host
from fondaco.node.network.peers import PeerId, shared_address
from fondaco.protocol import multiaddr
from fondaco.protocol.base58 import base58, unbase58
from fondaco.protocol.errors import Malformed, PeerFault, Unreachable
from fondaco.protocol.limits import KIB
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import (
    HOP,
    STOP,
    Answer,
    Connect,
    Limit,
    Reservation,
    Reserve,
    Status,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)
from fondaco.protocol.reach.relaying import Circuit, NotRelayed, RelayBook, Terms

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

log = logging.getLogger(__name__)

COPY_BYTES = 64 * KIB


@dataclass(slots=True)
class RelayCounters:
    """What happened since the start, for metrics."""

    reservations: int = 0
    circuits: int = 0
    refused: int = 0
    bytes: int = 0
    cut: int = 0
    """Circuits ended for their life, their bytes or their silence."""


class Relay:
    """Serves HOP on `host` for as long as that runs."""

    def __init__(self, host: Host, terms: Terms | None = None) -> None:
        self.book = RelayBook(terms)
        self.counters = RelayCounters()
        self._host = host
        host.handle(HOP, self._serve)
        host.on_disconnected(self.book.forget)

    async def _serve(self, stream: Stream) -> None:
        """One request a stream. What is none is answered, as the specification asks, and is its sender's fault."""
        try:
            data, begun = await read_message(stream, limit=bounds.CIRCUIT_MESSAGE_BYTES)
            message = decode_hop(data)
        except Malformed:
            await self._answer(stream, Answer(status=Status.MALFORMED_MESSAGE))
            raise
        try:
            if stream.relayed:
                raise NotRelayed(Status.PERMISSION_DENIED, "no relay serves through another")
            match message:
                case Reserve():
                    await self._reserve(stream)
                case Connect(peer=peer):
                    await self._connect(stream, PeerId(base58(peer)), begun)
                case Answer():
                    await self._answer(stream, Answer(status=Status.UNEXPECTED_MESSAGE))
                    raise PeerFault("circuit.unexpected", "an answer where a request belongs")
        except NotRelayed as refusal:
            self.counters.refused += 1
            log.debug("%s: %s", stream.peer, refusal)
            await self._answer(stream, Answer(status=refusal.status))

    async def _answer(self, stream: Stream, answer: Answer) -> None:
        await write_message(stream, encode_hop(answer))

    def _limit(self) -> Limit:
        return Limit(duration_s=self.book.terms.circuit_ms // 1000, data_bytes=self.book.terms.circuit_bytes)

    async def _reserve(self, stream: Stream) -> None:
        now = trio.current_time()
        expires = self.book.reserve(stream.peer, shared_address(self._host.remote_ip(stream.peer)), now)
        self.counters.reservations += 1
        where = tuple(multiaddr.encode(one) for one in self._host.addresses())
        place = Reservation(
            expires_s=int(time.time() + expires - now), addresses=where[: bounds.CIRCUIT_ADDRESSES]
        )
        await self._answer(stream, Answer(status=Status.OK, reservation=place, limit=self._limit()))

    async def _connect(self, stream: Stream, target: PeerId, begun: bytes) -> None:
        address = shared_address(self._host.remote_ip(stream.peer))
        circuit = self.book.connect(stream.peer, address, target, trio.current_time())
        try:
            there, rest = await self._stop(stream.peer, target)
            try:
                self.counters.circuits += 1
                await self._answer(stream, Answer(status=Status.OK, limit=self._limit()))
                for end, early in ((there, begun), (stream, rest)):
                    if early:
                        await end.write(early)
                await self._carry(stream, there, circuit)
            finally:
                await there.reset()
        finally:
            self.book.end(circuit)

    async def _stop(self, source: PeerId, target: PeerId) -> tuple[Stream, bytes]:
        """A stream to `target`, which lets `source` come, and what it says at once. Raises `NotRelayed`."""
        try:
            there = await self._host.open_stream(target, STOP)
        except Unreachable as error:
            raise NotRelayed(Status.CONNECTION_FAILED, str(error)) from None
        try:
            await write_message(there, encode_stop(Connect(peer=unbase58(source), limit=self._limit())))
            data, rest = await read_message(there, limit=bounds.CIRCUIT_MESSAGE_BYTES)
            answer = decode_stop(data)
            if not isinstance(answer, Answer):
                raise PeerFault("circuit.unexpected", "a request where an answer belongs")
            if answer.status != Status.OK:
                raise NotRelayed(Status.CONNECTION_FAILED, f"{target} lets nobody in: {answer.status}")
        except (PeerFault, Unreachable) as error:
            await there.reset()
            if isinstance(error, PeerFault):
                self._host.blame(target, error)
            raise NotRelayed(Status.CONNECTION_FAILED, str(error)) from None
        except BaseException:
            await there.reset()
            raise
        return there, rest

    async def _carry(self, one: Stream, other: Stream, circuit: Circuit) -> None:
        """Bytes both ways, until both have ended, either is reset, or the circuit has had its share."""
        terms = self.book.terms
        moved = trio.current_time()

        async def copy(source: Stream, target: Stream) -> None:
            nonlocal moved
            while data := await source.read(COPY_BYTES):
                moved = trio.current_time()
                if not circuit.spend(len(data)):
                    raise Unreachable("circuit.spent", "the circuit carried all it may")
                await target.write(data)
                self.counters.bytes += len(data)
            await target.close()

        async def watch() -> None:
            while (quiet := trio.current_time() - moved) < terms.idle_ms / 1000:
                await trio.sleep(terms.idle_ms / 1000 - quiet)
            raise Unreachable("circuit.idle", "nothing moves")

        async def both() -> None:
            async with trio.open_nursery() as copies:
                copies.start_soon(copy, one, other)
                copies.start_soon(copy, other, one)
            nursery.cancel_scope.cancel()

        with trio.move_on_after(terms.circuit_ms / 1000) as life:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch)
                    nursery.start_soon(both)
            except* Unreachable as errors:
                self.counters.cut += errors.subgroup(_is_cut) is not None
        self.counters.cut += life.cancelled_caught
        await one.reset()


def _is_cut(error: BaseException) -> bool:
    return isinstance(error, Unreachable) and error.code.startswith("circuit.")
