"""A node that nobody can dial keeps a place with some relays, and lets in whom they lead to it.

places = Places(host, [relay, ...])
nursery.start_soon(places.run)
await places.wait_kept()
places.addresses()      `/ip4/.../p2p/RELAY/p2p-circuit/p2p/WE` of each relay that keeps one now
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from fondaco.node.network.delimited import read_message, write_message
from fondaco.node.network.host import Host
from fondaco.node.network.peers import Address, PeerId, peer_of, through
from fondaco.protocol.errors import FondacoError, Malformed, PeerFault, Refused, Unreachable
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import (
    HOP,
    STOP,
    Answer,
    Connect,
    Reserve,
    Status,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

log = logging.getLogger(__name__)


class Places:
    """The places of one host; `changed(addresses)` is called whenever one is given or lost."""

    def __init__(
        self, host: Host, relays: Sequence[Address], changed: Callable[[list[Address]], None] = lambda _: None
    ) -> None:
        if len(relays) > bounds.RELAYS:
            raise Refused("relay.many", f"{len(relays)} relays, at most {bounds.RELAYS} are kept")
        self.circuits = 0
        """Open towards us now."""
        self._host = host
        self._relays = {peer_of(relay): relay for relay in relays}
        self._kept: dict[PeerId, float] = {}
        """Relay -> until when, by trio's clock."""
        self._news = trio.Event()
        self._changed = changed
        host.handle(STOP, self._serve)
        host.on_disconnected(self._lost)

    def addresses(self) -> list[Address]:
        """Where we can be reached now."""
        now = trio.current_time()
        return [
            through(where, self._host.peer_id) for relay, where in self._relays.items() if self._holds(relay, now)
        ]

    def _holds(self, relay: PeerId, now: float) -> bool:
        return self._kept.get(relay, now) > now

    async def wait_kept(self) -> None:
        """Until one relay at least keeps a place."""
        while not self.addresses():
            await self._news.wait()

    async def run(self) -> None:
        """Keep every relay connected and every place for ever."""
        async with trio.open_nursery() as nursery:
            for relay, where in self._relays.items():
                self._host.keep_connected(where)
                nursery.start_soon(self._keep, relay)

    async def _keep(self, relay: PeerId) -> None:
        """Ask again at half of the time that was given, at once after a connection was lost, else ever later."""
        shortest, longest = (ms / 1000 for ms in bounds.RESERVATION_RETRY_MS)
        pause = shortest
        while True:
            while not self._host.is_connected(relay):
                await self._host.wait_for_change()
            try:
                lasts = await self._reserve(relay)
            except FondacoError as error:
                log.warning("%s keeps no place for us: %s", relay, error)
                self._note(relay, None)
                await trio.sleep(pause)
                pause = min(pause * 2, longest)
                continue
            pause = shortest
            self._note(relay, trio.current_time() + lasts)
            with trio.move_on_after(max(lasts / 2, shortest)):
                while self._host.is_connected(relay):
                    await self._host.wait_for_change()

    async def _reserve(self, relay: PeerId) -> float:
        """Seconds for which `relay` keeps a place from now on. Raises `Unreachable` or `PeerFault`."""
        stream = await self._host.open_stream(relay, HOP)
        try:
            await write_message(stream, encode_hop(Reserve()))
            data, _ = await read_message(stream, limit=bounds.CIRCUIT_MESSAGE_BYTES)
        finally:
            await stream.reset()
        answer = decode_hop(data)
        if not isinstance(answer, Answer) or answer.status != Status.OK or answer.reservation is None:
            raise Unreachable("relay.refused", f"it answers {answer}")
        lasts = answer.reservation.expires_s - time.time()
        return min(max(lasts, bounds.RESERVATION_RETRY_MS[1] / 1000), bounds.RESERVATION_MS / 1000)

    def _lost(self, peer: PeerId) -> None:
        if peer in self._kept:
            self._note(peer, None)

    def _note(self, relay: PeerId, until: float | None) -> None:
        before = relay in self._kept
        if until is None:
            self._kept.pop(relay, None)
        else:
            self._kept[relay] = until
        if before != (until is not None):
            log.info("%s at %s", "a place is lost" if before else "a place is kept", self._relays[relay])
            self._news.set()
            self._news = trio.Event()
            self._changed(self.addresses())

    async def _serve(self, stream: Stream) -> None:
        """A relay leads somebody to us. Noise tells who that is, whatever the relay says."""
        from fondaco.node.network import circuit

        data, begun = await read_message(stream, limit=bounds.CIRCUIT_MESSAGE_BYTES)
        try:
            message = decode_stop(data)
        except Malformed:
            await self._answer(stream, Status.MALFORMED_MESSAGE)
            raise
        if not isinstance(message, Connect):
            await self._answer(stream, Status.UNEXPECTED_MESSAGE)
            raise PeerFault("circuit.unexpected", "an answer where a request belongs")
        if stream.peer not in self._kept or stream.relayed:
            await self._answer(stream, Status.PERMISSION_DENIED)
            return
        if self.circuits >= bounds.CIRCUITS_IN:
            await self._answer(stream, Status.RESOURCE_LIMIT_EXCEEDED)
            return
        self.circuits += 1
        try:
            await self._answer(stream, Status.OK)
            await circuit.accept(self._host._swarm, circuit.StreamCarrier(stream, begun))
        finally:
            self.circuits -= 1

    async def _answer(self, stream: Stream, status: Status) -> None:
        await write_message(stream, encode_stop(Answer(status=status)))
