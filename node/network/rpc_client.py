"""The asking side of `rpc`: one link a peer, shared by all who ask it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, assert_never

import trio

from fondaco.node.network.framing import Payloads, greet
from fondaco.node.network.host import Host
from fondaco.node.network.outbox import Outbox
from fondaco.node.network.peers import PeerId
from fondaco.protocol import codec, limits
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import FondacoError, Malformed, PeerFault, Unreachable
from fondaco.protocol.frames import FrameReader, Hello, frame
from fondaco.protocol.rpc import (
    Call,
    Cancel,
    Credit,
    End,
    Failure,
    FromClient,
    FromServer,
    Item,
    Reply,
    item_cost,
    pack_plain,
)

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream


class RpcClient:
    """Calls peers under `protocol`; a stream is opened at the first call and kept."""

    def __init__(self, host: Host, protocol: str, *, hello: Hello) -> None:
        self._host = host
        self._protocol = protocol
        self._hello = hello
        self._links: dict[PeerId, _ClientLink] = {}
        self._opening: dict[PeerId, trio.Lock] = {}

    async def call(
        self, peer: PeerId, method: str, params: Plain, *, timeout_ms: int = limits.REQUEST_TIMEOUT_MS
    ) -> Plain:
        """Ask `peer`; its answer.

        Raises what the handler refused (`Refused`), `Unreachable` if there is no answer in time, no connection
        or no such protocol, and `Refused` `rpc.too_large` for parameters beyond the limit.
        """
        packed = pack_plain(params)
        with trio.move_on_after(timeout_ms / 1000):
            link = await self._link(peer)
            async with link.slots:
                return await link.call(method, packed, timeout_ms)
        raise Unreachable("rpc.timeout", f"{peer} did not answer {method!r} within {timeout_ms} ms")

    @contextlib.asynccontextmanager
    async def stream(self, peer: PeerId, method: str, params: Plain) -> AsyncIterator[AsyncIterator[Plain]]:
        """Ask `peer` for a stream of values; leaving the block cancels it. Raises as `call` does, at any item."""
        packed = pack_plain(params)
        with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 1000) as scope:
            link = await self._link(peer)
            await link.slots.acquire()
        if scope.cancelled_caught:
            raise Unreachable("rpc.timeout", f"{peer} has no room for {method!r}")
        items = link.open(method, packed)
        try:
            yield items
        finally:
            link.end(items)
            link.slots.release()

    async def _link(self, peer: PeerId) -> _ClientLink:
        """The living link to `peer`, opened if need be; callers that come meanwhile wait for the same."""
        async with self._opening.setdefault(peer, trio.Lock()):
            link = self._links.get(peer)
            if link is None or link.closed:
                try:
                    link = self._links[peer] = await self._open(peer)
                finally:
                    if peer not in self._links:
                        self._opening.pop(peer, None)
            return link

    async def _open(self, peer: PeerId) -> _ClientLink:
        stream = await self._host.open_stream(peer, self._protocol)
        payloads = Payloads(stream, FrameReader())
        try:
            await greet(stream, payloads, self._hello, first=True)
        except BaseException:
            await stream.reset()
            raise
        link = _ClientLink(self._host, stream, payloads)
        self._host.start_soon(self._run, peer, link)
        return link

    async def _run(self, peer: PeerId, link: _ClientLink) -> None:
        try:
            await link.run()
        finally:
            if self._links.get(peer) is link:
                del self._links[peer]
                self._opening.pop(peer, None)


class _Awaited:
    """A call whose reply is awaited."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: bytes | FondacoError | None = None

    def finish(self, result: bytes | FondacoError) -> None:
        self.result = result
        self.done.set()


class Items(AsyncIterator[Plain]):
    """The values of a server stream; each one read gives its credit back."""

    def __init__(self, link: _ClientLink, request: int) -> None:
        self.id = request
        self.ended: FondacoError | bool = False
        """Why no more will come; True at a regular end."""
        self._link = link
        self._values: deque[bytes] = deque()
        self._waiting = 0
        self._read = 0
        self._changed = trio.Event()

    @property
    def buffered(self) -> int:
        """What lies unread, in credit."""
        return self._waiting

    def put(self, value: bytes) -> None:
        if self._waiting > limits.RPC_STREAM_WINDOW_BYTES:
            raise PeerFault("rpc.credit", "items beyond the credit given")
        self._values.append(value)
        self._waiting += item_cost(value)
        self._changed.set()

    def finish(self, reason: FondacoError | bool) -> None:
        self.ended = self.ended or reason
        self._changed.set()

    async def __anext__(self) -> Plain:
        while not self._values:
            if isinstance(self.ended, FondacoError):
                raise self.ended
            if self.ended:
                raise StopAsyncIteration
            self._changed = trio.Event()
            await self._changed.wait()
        value = self._values.popleft()
        cost = item_cost(value)
        self._waiting -= cost
        self._read += cost
        if self._read >= limits.RPC_STREAM_WINDOW_BYTES // 2:
            self._link.say(Credit(id=self.id, size=self._read))
            self._read = 0
        return self._link.unpack(value)


class _ClientLink:
    """The client's side of one stream."""

    def __init__(self, host: Host, stream: Stream, payloads: Payloads) -> None:
        self.closed = False
        self.fault: PeerFault | None = None
        """What the server did to be hung up on."""
        self.slots = trio.Semaphore(limits.REQUESTS_IN_FLIGHT)
        self._host = host
        self._stream = stream
        self._payloads = payloads
        self._outbox = Outbox()
        self._next = 1
        self._calls: dict[int, _Awaited] = {}
        self._streams: dict[int, Items] = {}

    async def call(self, method: str, params: bytes, timeout_ms: int) -> Plain:
        self._check_open()
        request = self._next
        self._next += 1
        awaited = self._calls[request] = _Awaited()
        try:
            self.say(Call(id=request, method=method, timeout_ms=timeout_ms, params=params))
            await awaited.done.wait()
        finally:
            del self._calls[request]
            if awaited.result is None:
                self.say(Cancel(id=request))
        if isinstance(awaited.result, bytes):
            return self.unpack(awaited.result)
        assert awaited.result is not None
        raise awaited.result

    def open(self, method: str, params: bytes) -> Items:
        self._check_open()
        request = self._next
        self._next += 1
        items = self._streams[request] = Items(self, request)
        self.say(Call(id=request, method=method, timeout_ms=0, params=params))
        return items

    def end(self, items: Items) -> None:
        """The application has had enough."""
        self._streams.pop(items.id, None)
        if not items.ended:
            self.say(Cancel(id=items.id))

    def unpack(self, packed: bytes) -> Plain:
        """What the server said; if that is no plain value it is blamed, and has as good as not answered."""
        try:
            return codec.unpack(packed)
        except Malformed as fault:
            self._host.blame(self._stream.peer, fault)
            raise Unreachable("rpc.garbled", f"{self._stream.peer} answers garbage") from None

    def _check_open(self) -> None:
        if self.closed:
            raise self._gone()

    def _gone(self) -> Unreachable:
        if self.fault is not None:
            return Unreachable("rpc.fault", f"{self._stream.peer} broke the protocol: {self.fault}")
        return Unreachable("rpc.disconnected", f"the stream to {self._stream.peer} is gone")

    def say(self, message: FromClient) -> None:
        if not self.closed:
            self._outbox.put(frame(codec.encode(message)))

    async def run(self) -> None:
        """Read and write until the stream ends; then everybody who waits is told."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                try:
                    while batch := await self._payloads.some():
                        for payload in batch:
                            self._take(codec.decode_union(payload, FromServer))
                except PeerFault as fault:
                    self.fault = fault
                    self._host.blame(self._stream.peer, fault)
                except Unreachable:
                    pass
                nursery.cancel_scope.cancel()
        finally:
            self.closed = True
            for awaited in self._calls.values():
                if awaited.result is None:
                    awaited.finish(self._gone())
            for items in self._streams.values():
                items.finish(self._gone())
            await self._stream.reset()

    async def _write(self, scope: trio.CancelScope) -> None:
        with contextlib.suppress(Unreachable):
            await self._outbox.drain(self._stream)
        scope.cancel()

    def _take(self, message: FromServer) -> None:
        """Hand an answer to who waits; answers to what was cancelled or timed out come late and are let go."""
        awaited = self._calls.get(message.id)
        items = self._streams.get(message.id)
        if message.id >= self._next:
            raise PeerFault("rpc.id", "an answer to a question never asked")
        match message:
            case Reply():
                if awaited is not None:
                    awaited.finish(message.result)
            case Item():
                if items is not None:
                    items.put(message.value)
            case End():
                if items is not None:
                    items.finish(True)
            case Failure():
                if awaited is not None:
                    awaited.finish(message.error())
                if items is not None:
                    items.finish(message.error())
            case _:
                assert_never(message)
