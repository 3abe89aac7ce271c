"""Round trips to a peer, and answering those of others: libp2p's ping, 32 bytes that come back as they went.

It runs on a stream like any other, so it takes the way, the encryption and the queues that a workload's channel
takes. The library answers pings too, but as fast as anybody asks; this takes its place on every host.

Pings are sent at a fixed pace, whether or not the one before was answered: whoever waits for a slow answer before
asking again asks least where it is worst, and finds it better than it is ("coordinated omission"). So several may
be under way, and each answer is known by its 32 bytes, which nobody could have guessed.

https://github.com/libp2p/specs/blob/master/ping/ping.md
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from typing import TYPE_CHECKING

import trio

from fondaco.node.network.localities import block
from fondaco.node.network.peers import PeerId
from fondaco.node.network.throttle import Throttle
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import Millis

if TYPE_CHECKING:
    from fondaco.node.network.host import Host
    from fondaco.node.network.stream import Stream

PROTOCOL = "/ipfs/ping/1.0.0"
PING_BYTES = 32
PACE_MS = 50
"""Between two pings; the answering side keeps up with that for ever."""
PATIENCE_MS = Millis(2_000)
"""A ping that is not answered within so long is lost."""

STREAMS = 64
"""Pinged at a time by all others together; a further one is turned away."""
STREAMS_PER_PEER = 2
"""As the specification has it."""
STREAMS_PER_NETWORK = 16
PINGS = (128, 1_000 / PACE_MS)
"""Of one peer: answered at once in a burst, and further ones a second; the rest waits."""
IDLE_S = 10.0
"""A stream on which nobody pings for so long is ended,"""
LIFE_S = 60.0
"""and any after so long."""


class PingServer:
    """Answers the pings of everybody, as far as it keeps within bounds."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._streams = Counter[PeerId]()
        self._networks = Counter[str]()
        self._paces: dict[PeerId, Throttle] = {}
        """Of connected peers that pinged; who comes again pays for a handshake, which costs more than a burst."""
        self.answered = 0
        # Every host of the library serves it, from before anybody could connect: there is nothing to announce.
        host.handle(PROTOCOL, self._serve, announce=False)
        host.on_disconnected(self._forget)

    @property
    def served(self) -> int:
        """Streams that are open now."""
        return self._streams.total()

    async def _serve(self, stream: Stream) -> None:
        peer, ip = stream.peer, self._host.remote_ip(stream.peer)
        network = block(ip) if ip else ""
        if (
            self.served >= STREAMS
            or self._streams[peer] >= STREAMS_PER_PEER
            or (network and self._networks[network] >= STREAMS_PER_NETWORK)
        ):
            raise Refused("ping.busy", "too many are pinging already")
        self._streams[peer] += 1
        self._networks[network] += 1
        try:
            with trio.move_on_after(LIFE_S):
                await self._answer(stream, self._paces.setdefault(peer, Throttle(*PINGS)))
        finally:
            self._streams -= Counter([peer])  # what is at nothing is forgotten
            self._networks -= Counter([network])
            if not self._host.is_connected(peer):  # it went before we began, and nobody will tell of it
                self._forget(peer)

    def _forget(self, peer: PeerId) -> None:
        self._paces.pop(peer, None)

    async def _answer(self, stream: Stream, pace: Throttle) -> None:
        while (ping := await _read_ping(stream)) is not None:
            await pace.turn()
            await stream.write(ping)
            self.answered += 1


async def _read_ping(stream: Stream) -> bytes | None:
    """The next 32 bytes; None at the end, or when nobody pings for too long."""
    ping = bytearray()
    with trio.move_on_after(IDLE_S):
        while data := await stream.read(PING_BYTES - len(ping)):
            ping += data
            if len(ping) == PING_BYTES:
                return bytes(ping)
    return None


async def round_trips(host: Host, peer: PeerId, count: int, *, pace_ms: int = PACE_MS) -> list[Millis | None]:
    """How long so many pings to a connected peer took, in the order sent, rounded up; None for those lost.

    Takes `count * pace_ms`, and up to `PATIENCE_MS` for the last answers. A peer that opens no stream for pings,
    ends it or answers what it was not sent has lost what it has not answered by then. Never raises for a peer.
    """
    pings = _Pings(count)
    try:
        stream = await host.open_stream(peer, PROTOCOL)
    except Unreachable:
        return pings.samples
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pings.hear, stream, nursery.cancel_scope)
            await pings.send(stream, pace_ms)
            with trio.move_on_after(PATIENCE_MS / 1_000):
                await pings.settled.wait()
            nursery.cancel_scope.cancel()
    except* Unreachable:
        pass
    finally:
        await stream.reset()
    return pings.samples


class _Pings:
    """One series of pings, sent by one task and heard by another."""

    def __init__(self, count: int) -> None:
        self.samples: list[Millis | None] = [None] * count
        self.settled = trio.Event()
        """Set when all that was sent was answered, and nothing more will be sent."""
        self._sent: dict[bytes, tuple[int, float]] = {}
        """What is under way: which it is, and since when."""
        self._all_sent = False

    async def send(self, stream: Stream, pace_ms: int) -> None:
        began = trio.current_time()
        for number in range(len(self.samples)):
            await trio.sleep_until(began + number * pace_ms / 1_000)
            ping = secrets.token_bytes(PING_BYTES)
            self._sent[ping] = (number, trio.current_time())
            await stream.write(ping)
        self._all_sent = True
        self._look()

    async def hear(self, stream: Stream, scope: trio.CancelScope) -> None:
        """Until the stream ends, or an answer is none."""
        while (answer := await _read_ping(stream)) is not None:
            number, since = self._sent.pop(answer, (-1, 0.0))
            if number < 0:
                break
            took = Millis(math.ceil((trio.current_time() - since) * 1_000))
            self.samples[number] = took if took <= PATIENCE_MS else None
            self._look()
        scope.cancel()

    def _look(self) -> None:
        if self._all_sent and not self._sent:
            self.settled.set()
