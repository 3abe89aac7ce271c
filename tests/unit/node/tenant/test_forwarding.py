"""A local port that leads into a workload: real sockets, and a stream pair in place of the channel."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from fondaco.node.tenant.forwarding import serve_forward
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused, Unreachable


class Lease:
    """Its workload answers each connection with what it heard, in capitals, once the sender has ended."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.closed = 0
        self.open = 0
        self.most = 0
        self.fault: Exception | None = None

    @asynccontextmanager
    async def forward(self, service: str, port: int) -> AsyncIterator[Any]:
        self.asked.append((service, port))
        self.open += 1
        self.most = max(self.most, self.open)
        if self.fault is not None:
            self.open -= 1
            raise self.fault
        near, far = trio.testing.memory_stream_pair()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work, far)
                yield near
                nursery.cancel_scope.cancel()
        finally:
            self.closed += 1
            self.open -= 1

    async def _work(self, stream: Any) -> None:
        heard = bytearray()
        async for chunk in stream:
            heard += chunk
            if heard.startswith(b"break"):
                await stream.aclose()
                return
        await stream.send_all(heard.upper())
        await stream.send_eof()


@asynccontextmanager
async def forwarded(lease: Lease) -> AsyncIterator[int]:
    """The local port."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_forward, lease, "web", 80, 0))  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()


async def ask(port: int, text: bytes) -> bytes:
    """What comes back; nothing if the connection breaks."""
    with trio.fail_after(5):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(text)
                await stream.send_eof()
                return b"".join([chunk async for chunk in stream])
            return b""


async def test_bytes_go_both_ways_and_ends_are_passed_on() -> None:
    lease = Lease()
    async with forwarded(lease) as port:
        assert await ask(port, b"hello") == b"HELLO"
        assert await ask(port, b"x" * 500_000) == b"X" * 500_000
    assert lease.asked == [("web", 80)] * 2
    assert lease.closed == 2


async def test_several_connections_are_carried_at_once_and_no_more_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CHANNEL_STREAMS_PER_PEER", 2)
    lease, answers = Lease(), []

    async def one(port: int, text: bytes) -> None:
        answers.append(await ask(port, text))

    async with forwarded(lease) as port, trio.open_nursery() as nursery:
        for text in (b"a", b"b", b"c", b"d", b"e"):
            nursery.start_soon(one, port, text)
    assert sorted(answers) == [b"A", b"B", b"C", b"D", b"E"]
    assert lease.most <= 2


async def test_a_provider_that_does_not_answer_ends_that_connection_alone() -> None:
    lease = Lease()
    async with forwarded(lease) as port:
        lease.fault = Unreachable("channel.unreachable", "gone")
        assert await ask(port, b"hello") == b""
        lease.fault = None
        assert await ask(port, b"hello") == b"HELLO"


async def test_a_stream_that_breaks_ends_that_connection_alone() -> None:
    lease = Lease()
    async with forwarded(lease) as port:
        assert await ask(port, b"break" * 100_000) == b""
        assert await ask(port, b"hello") == b"HELLO"


async def test_a_port_that_is_taken_is_said() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    taken = listener.socket.getsockname()[1]
    async with listener:
        with pytest.raises(Refused) as refusal:
            await serve_forward(Lease(), "web", 80, taken)  # type: ignore[arg-type]
    assert refusal.value.code == "forward.port_taken"
