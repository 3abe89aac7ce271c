"""How payloads are told apart on a stream, and how two sides greet each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault, Unreachable
from fondaco.protocol.frames import FrameReader, Hello, frame

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

READ_BYTES = 64 * limits.KIB


class PayloadReader(Protocol):
    """Cuts a stream of bytes; `FrameReader` and gossip's `DelimitedReader` are two."""

    def feed(self, data: bytes) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """The two directions of one way of framing."""

    encode: Callable[[bytes], bytes]
    reader: Callable[[], PayloadReader]


LENGTH_PREFIXED = Framing(encode=frame, reader=FrameReader)


class Payloads:
    """Reads whole payloads from a stream."""

    def __init__(self, stream: Stream, reader: PayloadReader) -> None:
        self._stream = stream
        self._reader = reader
        self._ready: list[bytes] = []

    async def some(self) -> Sequence[bytes]:
        """The payloads that came next, in order, at least one; none at the end of the stream.

        Raises `PeerFault` for what is no frame, `Unreachable` if the stream is reset.
        """
        if self._ready:
            ready, self._ready = self._ready, []
            return ready
        while True:
            data = await self._stream.read(READ_BYTES)
            if not data:
                return ()
            payloads = self._reader.feed(data)
            if payloads:
                return payloads

    async def one(self) -> bytes:
        """The next payload. Raises `Unreachable` `stream.ended` at the end."""
        payloads = await self.some()
        if not payloads:
            raise Unreachable("stream.ended", "the peer ended the stream")
        self._ready = list(payloads[1:])
        return payloads[0]


async def greet(stream: Stream, payloads: Payloads, ours: Hello, *, first: bool) -> Hello:
    """Exchange hellos, ours first on a stream that we opened; return theirs, checked.

    Raises `Refused` `hello.chain` or `hello.version`, `PeerFault` for what is no hello, and `Unreachable`
    `hello.timeout`.
    """
    try:
        with trio.fail_after(limits.HANDSHAKE_TIMEOUT_MS / 1000):
            if first:
                await stream.write(frame(codec.encode(ours)))
            data = await payloads.one()
            if len(data) > limits.HELLO_BYTES:
                raise PeerFault("hello.size", f"a hello of {len(data)} bytes")
            theirs = codec.decode(data, Hello)
            if not first:
                await stream.write(frame(codec.encode(ours)))  # before the check, so that they learn why as well
            ours.check(theirs)
            return theirs
    except trio.TooSlowError:
        raise Unreachable("hello.timeout", f"{stream.peer} said no hello") from None
