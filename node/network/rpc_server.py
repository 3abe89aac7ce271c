"""The answering side of `rpc`: one session a client, one task a request."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, assert_never

import trio

from fondaco.node.network.framing import Payloads, greet
from fondaco.node.network.host import Host
from fondaco.node.network.outbox import Outbox
from fondaco.node.network.peers import PeerId
from fondaco.node.network.throttle import REQUESTS, Throttle
from fondaco.protocol import codec, limits
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import FrameReader, Hello, frame
from fondaco.protocol.rpc import (
    Call,
    Cancel,
    Credit,
    End,
    FromClient,
    FromServer,
    Item,
    Reply,
    failure,
    item_cost,
    pack_plain,
)

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

Handler = Callable[[PeerId, Plain], Awaitable[Plain] | AsyncIterator[Plain]]


class RpcServer:
    """Answers `methods` under `protocol` from now on; one inbound stream a peer, a newer one replaces it."""

    def __init__(self, host: Host, protocol: str, methods: Mapping[str, Handler], *, hello: Hello) -> None:
        self._methods = dict(methods)
        self._hello = hello
        self._sessions: dict[PeerId, Stream] = {}
        self.calls = 0
        self.refused = 0
        """Calls that ended in a failure, whosever."""
        host.handle(protocol, self._serve)

    async def _serve(self, stream: Stream) -> None:
        payloads = Payloads(stream, FrameReader())
        await greet(stream, payloads, self._hello, first=False)
        older = self._sessions.get(stream.peer)
        self._sessions[stream.peer] = stream
        if older is not None:
            await older.reset()
        try:
            await _Session(self, stream, payloads).run()
        finally:
            if self._sessions.get(stream.peer) is stream:
                del self._sessions[stream.peer]

    def method(self, name: str) -> Handler:
        """Raises `Refused` `rpc.method`."""
        handler = self._methods.get(name)
        if handler is None:
            raise Refused("rpc.method", f"there is no method {name[:80]!r}")
        return handler


class _Running:
    """One request under way at the server."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.credit = limits.RPC_STREAM_WINDOW_BYTES
        self.more = trio.Event()

    def add(self, size: int) -> None:
        self.credit += size
        if self.credit > limits.RPC_STREAM_WINDOW_BYTES:
            raise PeerFault("rpc.credit", "more credit than was ever used")
        self.more.set()

    async def spend(self, cost: int) -> None:
        """Wait for any credit at all, then spend; it may go below zero by one item."""
        while self.credit <= 0:
            self.more = trio.Event()
            await self.more.wait()
        self.credit -= cost


class _Session:
    """One client's stream at the server."""

    def __init__(self, server: RpcServer, stream: Stream, payloads: Payloads) -> None:
        self._server = server
        self._stream = stream
        self._payloads = payloads
        self._outbox = Outbox()
        self._running: dict[int, _Running] = {}

    async def run(self) -> None:
        """Until the client goes away; then every handler is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, nursery.cancel_scope)
            throttle = Throttle(*REQUESTS)
            while batch := await self._payloads.some():
                for payload in batch:
                    await throttle.turn()
                    self._take(codec.decode_union(payload, FromClient), nursery)
            nursery.cancel_scope.cancel()

    async def _write(self, scope: trio.CancelScope) -> None:
        with contextlib.suppress(Unreachable):
            await self._outbox.drain(self._stream)
        scope.cancel()

    def _take(self, message: FromClient, nursery: trio.Nursery) -> None:
        match message:
            case Call():
                if message.id in self._running:
                    raise PeerFault("rpc.id", "a request id that is in use")
                if self._outbox.full:
                    raise PeerFault("rpc.overrun", "the client asks and does not read the answers")
                self._server.calls += 1
                if len(self._running) >= limits.REQUESTS_IN_FLIGHT:
                    busy = Unreachable("rpc.busy", f"{limits.REQUESTS_IN_FLIGHT} requests are under way already")
                    self._fail(message.id, busy)
                    return
                running = self._running[message.id] = _Running()
                nursery.start_soon(self._answer, message, running)
            case Cancel():
                # The task takes itself off the list; whatever it was about to say, the client ignores.
                if message.id in self._running:
                    self._running[message.id].scope.cancel()
            case Credit():
                if message.id in self._running:
                    self._running[message.id].add(message.size)
            case _:
                assert_never(message)

    def _fail(self, request: int, error: Refused | Unreachable) -> None:
        self._server.refused += 1
        self._outbox.put(frame(codec.encode(failure(request, error))))

    async def _answer(self, call: Call, running: _Running) -> None:
        if call.timeout_ms:
            running.scope.deadline = trio.current_time() + call.timeout_ms / 1000
        try:
            with running.scope:
                await self._perform(call, running)
            if running.scope.cancelled_caught and call.timeout_ms:
                self._fail(call.id, Unreachable("rpc.deadline", f"no answer within {call.timeout_ms} ms"))
        except (Refused, Unreachable) as error:
            self._fail(call.id, error)
        finally:
            del self._running[call.id]

    async def _perform(self, call: Call, running: _Running) -> None:
        outcome = self._server.method(call.method)(self._stream.peer, codec.unpack(call.params))
        if isinstance(outcome, AsyncIterator):
            async with contextlib.aclosing(outcome) as items:  # type: ignore[type-var]
                async for value in items:
                    packed = pack_plain(value)
                    await running.spend(item_cost(packed))
                    await self._say(Item(id=call.id, value=packed))
            await self._say(End(id=call.id))
        else:
            await self._say(Reply(id=call.id, result=pack_plain(await outcome)))

    async def _say(self, message: FromServer) -> None:
        await self._outbox.put_patiently(frame(codec.encode(message)))
