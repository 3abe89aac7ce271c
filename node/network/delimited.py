"""Single messages behind a varint of their length, on a stream that may go on as something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from fondaco.protocol.errors import PeerFault, Unreachable
from fondaco.protocol.gossip.protobuf import read_varint
from fondaco.protocol.gossip.wire import delimit
from fondaco.protocol.reach import bounds

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream


async def read_message(
    stream: Stream, *, limit: int, begun: bytes = b"", within_ms: int | None = None
) -> tuple[bytes, bytes]:
    """The next message, and what has come after it already; `begun` came before.

    Raises `PeerFault` for one beyond `limit`, `Unreachable` `stream.ended`, `stream.reset` or `stream.silent`.
    """
    buffer = bytearray(begun)
    try:
        with trio.fail_after((bounds.ANSWER_MS if within_ms is None else within_ms) / 1000):
            while True:
                found = read_varint(buffer, 0)
                if found is not None:
                    length, start = found
                    if length > limit:
                        raise PeerFault("stream.message", f"a message of {length} bytes, at most {limit} allowed")
                    if len(buffer) >= start + length:
                        return bytes(buffer[start : start + length]), bytes(buffer[start + length :])
                data = await stream.read(limit)
                if not data:
                    raise Unreachable("stream.ended", f"{stream.peer} ended the stream")
                buffer += data
    except trio.TooSlowError:
        raise Unreachable("stream.silent", f"{stream.peer} says nothing") from None


async def write_message(stream: Stream, payload: bytes) -> None:
    """Raises `Unreachable`."""
    await stream.write(delimit(payload))
