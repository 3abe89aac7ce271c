"""Links: to every connected peer one outbound stream of frames, kept alive; from every peer one inbound.

    links = Links(host, "/fondaco/consensus/1", on_frame, hello=hello(chain))
    nursery.start_soon(links.run)
    links.broadcast(payload)

A frame that `send` took either arrives, in order, or the link went down in between, or it was shed because the
peer is too slow: `on_up` tells the service above when to say again what matters. Sending never waits.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import trio

from fondaco.node.network.framing import LENGTH_PREFIXED, Framing, Payloads, greet
from fondaco.node.network.host import Host
from fondaco.node.network.outbox import Outbox
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.throttle import LINK_FRAMES, Throttle
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import Hello

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

log = logging.getLogger(__name__)

OnFrame = Callable[[PeerId, bytes], Awaitable[None]]
"""May raise `PeerFault`: the stream is reset and the peer scored down."""


def _nothing(_peer: PeerId) -> None:
    """The default for who does not care."""


def _anybody(_peer: PeerId) -> bool:
    """The default for who links with all."""
    return True


class Links:
    """See the module. `run` it in a nursery; everything else may be called at any time, from trio's thread."""

    def __init__(
        self,
        host: Host,
        protocol: str,
        on_frame: OnFrame,
        *,
        hello: Hello | None,
        keep: Iterable[Address] = (),
        wanted: Callable[[PeerId], bool] = _anybody,
        on_up: Callable[[PeerId], None] = _nothing,
        on_down: Callable[[PeerId], None] = _nothing,
        framing: Framing = LENGTH_PREFIXED,
        queue_bytes: int = limits.SEND_QUEUE_BYTES,
    ) -> None:
        """`hello` None exchanges none; peers in `keep` are dialled for as long as the host runs; `wanted` says
        whom to link with, asked for each peer as it connects and as it opens a stream."""
        self._host = host
        self._protocol = protocol
        self._on_frame = on_frame
        self._hello = hello
        self._keep = tuple(keep)
        self._wanted = wanted
        self._on_up = on_up
        self._on_down = on_down
        self._framing = framing
        self.queue_bytes = queue_bytes
        """That may wait for each peer."""
        self._up: dict[PeerId, Outbox] = {}
        self._talking: set[PeerId] = set()
        self._inbound: dict[PeerId, Stream] = {}
        self._nursery: trio.Nursery | None = None
        self.frames_in = self.bytes_in = 0
        self.frames_out = self.bytes_out = 0
        """Bytes are those of the frames, before they are encrypted."""
        self._shed: Counter[int] = Counter()
        """By rank, of links that are down by now."""

    # Sending

    def peers(self) -> list[PeerId]:
        """Peers that a frame can be sent to now."""
        return list(self._up)

    def send(self, peer: PeerId, payload: bytes) -> bool:
        """Queue `payload` for `peer`; False if there is no link to it. Raises `Refused` `frame.too_large`."""
        outbox = self._up.get(peer)
        if outbox is None:
            return False
        self._put(outbox, self._framing.encode(payload))
        return True

    def broadcast(self, payload: bytes, *, except_: Iterable[PeerId] = ()) -> int:
        """Queue `payload` for every linked peer but those; how many that is."""
        skipped = set(except_)
        return self.send_many([peer for peer in self._up if peer not in skipped], payload)

    def send_many(self, peers: Iterable[PeerId], payload: bytes, *, rank: int = 0) -> int:
        """Queue `payload` for each of `peers` that has a link; it is framed once. Lower ranks go first."""
        framed = self._framing.encode(payload)
        count = 0
        for peer in peers:
            outbox = self._up.get(peer)
            if outbox is not None:
                self._put(outbox, framed, rank)
                count += 1
        return count

    def _put(self, outbox: Outbox, framed: bytes, rank: int = 0) -> None:
        self.frames_out += 1
        self.bytes_out += len(framed)
        outbox.put(framed, rank)

    def outbox(self, peer: PeerId) -> Outbox | None:
        """The queue in front of the link to `peer`; None where there is no link."""
        return self._up.get(peer)

    def hears(self, peer: PeerId) -> bool:
        """Whether a stream of `peer` to us is open."""
        return peer in self._inbound

    def queued_bytes(self, peer: PeerId) -> int:
        """What waits to be sent to `peer`."""
        outbox = self._up.get(peer)
        return outbox.size if outbox else 0

    def shed_by_rank(self) -> Counter[int]:
        """Frames dropped since the start because a peer was too slow."""
        return sum((outbox.shed for outbox in self._up.values()), self._shed)

    def shed_frames(self) -> int:
        """All of them."""
        return self.shed_by_rank().total()

    # Living

    async def run(self) -> None:
        """Keep the links, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._host.handle(self._protocol, self._serve)
            self._host.on_connected(self._came)
            for address in self._keep:
                self._host.keep_connected(address)
            for peer in self._host.peers():
                self._came(peer)
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _came(self, peer: PeerId) -> None:
        if self._nursery is None or peer in self._talking or not self._wanted(peer):
            return
        self._talking.add(peer)
        self._nursery.start_soon(self._keep_link, peer)

    async def _keep_link(self, peer: PeerId) -> None:
        """Link with `peer` again and again while it is connected."""
        shortest, longest = (ms / 1000 for ms in limits.REDIAL_MS)
        delay = shortest
        try:
            while self._host.is_connected(peer):
                began = trio.current_time()
                try:
                    await self._link(peer)
                except PeerFault as fault:
                    self._host.blame(peer, fault)
                except (Refused, Unreachable) as error:
                    log.debug("no %s link to %s: %s", self._protocol, peer, error)
                delay = shortest if trio.current_time() - began > longest else min(delay * 2, longest)
                with trio.move_on_after(delay):
                    while self._host.is_connected(peer):
                        await self._host.wait_for_change()
        finally:
            self._talking.discard(peer)
        if self._host.is_connected(peer):  # it went and came while we looked away
            self._came(peer)

    async def _link(self, peer: PeerId) -> None:
        """One link from beginning to end."""
        stream = await self._host.open_stream(peer, self._protocol)
        outbox = Outbox(max_bytes=self.queue_bytes)
        payloads = Payloads(stream, self._framing.reader())
        try:
            if self._hello is not None:
                await greet(stream, payloads, self._hello, first=True)
            self._up[peer] = outbox
            self._on_up(peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, stream, nursery.cancel_scope)
                with contextlib.suppress(Unreachable):
                    await outbox.drain(stream)
                nursery.cancel_scope.cancel()
        finally:
            if self._up.get(peer) is outbox:
                del self._up[peer]
                self._shed.update(outbox.shed)
                self._on_down(peer)
            await stream.reset()

    async def _watch(self, stream: Stream, scope: trio.CancelScope) -> None:
        """Nothing comes back on a link; what is read is its end, noticed before the next write would."""
        with contextlib.suppress(Unreachable):
            while await stream.read():
                pass
        scope.cancel()

    async def _serve(self, stream: Stream) -> None:
        """An inbound stream of frames; a newer one of the same peer takes its place."""
        peer = stream.peer
        if self._nursery is None or not self._wanted(peer):
            raise Refused("links.unwanted", f"no {self._protocol} link with {peer}")
        payloads = Payloads(stream, self._framing.reader())
        if self._hello is not None:
            await greet(stream, payloads, self._hello, first=False)
        older = self._inbound.get(peer)
        self._inbound[peer] = stream
        if older is not None:
            await older.reset()
        try:
            throttle = Throttle(*LINK_FRAMES)
            while batch := await payloads.some():
                for payload in batch:
                    await throttle.turn()
                    self.frames_in += 1
                    self.bytes_in += len(payload)
                    await self._on_frame(peer, payload)
        finally:
            if self._inbound.get(peer) is stream:
                del self._inbound[peer]
