"""Frames: how messages are told apart on a stream of bytes, and the hello every framed stream begins with.

A frame is a four-byte big-endian length and that many bytes. The reader is sans-IO: feed it what the stream
gave, take the frames that became complete. The longest frame is fixed beforehand, so a peer that announces
more is found out at the fourth byte, not after the gigabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.scalars import ChainId

PREFIX_BYTES = 4
HELLO_VERSION = 1


def frame(payload: bytes, *, limit: int = limits.FRAME_BYTES) -> bytes:
    """Put the length in front. Raises `Refused` `frame.too_large` beyond `limit` bytes."""
    if len(payload) > limit:
        raise Refused("frame.too_large", f"{len(payload)} bytes do not fit a frame of {limit}")
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


class FrameReader:
    """Cuts a stream of bytes into frames; holds at most one unfinished frame and what was just fed."""

    def __init__(self, *, limit: int = limits.FRAME_BYTES) -> None:
        self.limit = limit
        """The longest payload taken, in bytes."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take in `data`; return the payloads that are now complete, in order.

        Raises `PeerFault` `frame.too_large` when a longer frame than the limit is announced.
        """
        buffer = self._buffer
        buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(buffer) - start >= PREFIX_BYTES:
            length = int.from_bytes(buffer[start : start + PREFIX_BYTES], "big")
            if length > self.limit:
                raise PeerFault("frame.too_large", f"a frame of {length} bytes, at most {self.limit} allowed")
            end = start + PREFIX_BYTES + length
            if len(buffer) < end:
                break
            payloads.append(bytes(buffer[start + PREFIX_BYTES : end]))
            start = end
        if start:
            del buffer[:start]
        return payloads

    @property
    def buffered(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first frame in either direction: whoever speaks another version or another chain goes no further."""

    TAG: ClassVar[int] = 1
    version: int
    chain: ChainId
    frame_bytes: int
    """The longest frame the sender of this hello is ready to take."""
    note: bytes
    """What the protocol wants said beforehand; empty for most."""

    def check(self, theirs: Hello) -> None:
        """Raise `Refused` `hello.version` or `hello.chain` unless we can talk to who said `theirs`.

        Not a fault: a peer of another chain is honest, and may still serve us under another protocol.
        """
        if theirs.version != self.version:
            raise Refused("hello.version", f"the peer speaks version {theirs.version}, we speak {self.version}")
        if theirs.chain != self.chain:
            raise Refused("hello.chain", f"the peer is of chain {theirs.chain!r}, we are of {self.chain!r}")


def hello(chain: ChainId, *, note: bytes = b"", frame_bytes: int = limits.FRAME_BYTES) -> Hello:
    """Our hello for `chain`."""
    return Hello(version=HELLO_VERSION, chain=chain, frame_bytes=frame_bytes, note=note)
