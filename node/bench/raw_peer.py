"""The far end of `fondaco bench channel`'s bare stream: a host in a process of its own.

    python -m fondaco.node.bench.raw_peer

It prints its address, and ends when its standard input does. The first byte of a stream says what it is for.
"""

from __future__ import annotations

import sys

import trio

from fondaco.node.network.host import open_host
from fondaco.node.network.stream import Stream
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.signing import sha256

RAW = "/bench/raw/1"
SEND, TAKE, ECHO = b"s", b"t", b"e"
"""Send without end; take to the end, and answer then; give back what comes."""
CHUNK_BYTES = 65_536


async def serve(stream: Stream) -> None:
    """Do what the first byte asks for."""
    first = await stream.read(1)
    try:
        while first == SEND:
            await stream.write(bytes(CHUNK_BYTES))
        while data := await stream.read(CHUNK_BYTES):
            if first == ECHO:
                await stream.write(data)
        await stream.write(b"!")
        await stream.close()
    except Unreachable:
        pass  # it has what it wanted


async def main() -> None:
    async with open_host(sha256(b"far")) as host:
        host.handle(RAW, serve)
        sys.stdout.write(f"{host.addresses()[0]}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    trio.run(main)
