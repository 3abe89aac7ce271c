"""A lying node's streams: it stalls, floods, and breaks off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import trio
from tests.support.malice import Liar, Method

from fondaco.node.network.framing import Payloads, greet
from fondaco.node.network.stream import Stream
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.frames import FrameReader, frame, hello
from fondaco.protocol.light import ProvenRecord
from fondaco.protocol.rpc import Call, FromClient, Item, Reply
from fondaco.protocol.scalars import (
    ChainId,
)

Bend = Callable[[Liar, bytes, ProvenRecord], Any]


# Stalls


def hangs(liar: Liar) -> dict[str, Method]:
    """Takes every request and never answers."""

    async def answer(peer: str, params: Any) -> Any:
        await trio.sleep_forever()

    async def tell(peer: str, params: Any) -> Any:
        while True:
            await trio.sleep(3_600)
            yield b""

    names = ("head", "block", "record", "transaction", "submit_transaction", "submit_order", "providers")
    return {**dict.fromkeys(names, answer), "watch_record": tell, "watch_order": tell}


async def mute(stream: Stream) -> None:
    """Takes the stream and says nothing at all."""
    await trio.sleep_forever()


async def drips(stream: Stream) -> None:
    """Its hello comes at one byte a second."""
    for byte in frame(b"\x00" * 100):
        await stream.write(bytes([byte]))
        await trio.sleep(1)


def greeted(then: Callable[[Stream, Payloads], Awaitable[None]]) -> Callable[[Stream], Awaitable[None]]:
    """Says hello as it should, and goes on as it should not."""

    async def serve(stream: Stream) -> None:
        payloads = Payloads(stream, FrameReader())
        await greet(stream, payloads, hello(CHAIN[0]), first=False)
        await then(stream, payloads)

    return serve


CHAIN: list[ChainId] = [ChainId("")]
"""Of the network, for what is said below the methods: set once it runs."""


async def stops_midway(stream: Stream, payloads: Payloads) -> None:
    """Half an answer."""
    await payloads.one()
    await stream.write(frame(bytes(1_000))[:500])
    await trio.sleep_forever()


async def beyond_the_limit(stream: Stream, payloads: Payloads) -> None:
    """Announces a frame of four gigabytes, and begins with it."""
    await payloads.one()
    await stream.write(b"\xff\xff\xff\xff" + bytes(100_000))
    await trio.sleep_forever()


async def up_to_the_limit(stream: Stream, payloads: Payloads) -> None:
    """Answers everything with as many bytes as fit."""
    async for call in calls(payloads):
        junk = codec.pack(bytes(limits.BLOB_BYTES - 64))
        await stream.write(frame(codec.encode(Reply(id=call.id, result=junk))))


async def beyond_the_credit(stream: Stream, payloads: Payloads) -> None:
    """Answers everything with items, as fast as they go, whatever credit it was given."""
    async for call in calls(payloads):
        if call.timeout_ms:
            await stream.write(frame(codec.encode(Reply(id=call.id, result=codec.pack(b"")))))
        else:
            for _ in range(10_000):
                await stream.write(frame(codec.encode(Item(id=call.id, value=codec.pack(bytes(10_000))))))


async def calls(payloads: Payloads) -> Any:
    while batch := await payloads.some():
        for payload in batch:
            message = codec.decode_union(payload, FromClient)
            if isinstance(message, Call):
                yield message


async def of_another_chain(stream: Stream) -> None:
    payloads = Payloads(stream, FrameReader())
    await greet(stream, payloads, hello(ChainId("another-chain-1")), first=False)
    await trio.sleep_forever()


async def no_hello(stream: Stream) -> None:
    await stream.write(frame(b"good day"))
    await trio.sleep_forever()


# Floods


def floods_answers(liar: Liar) -> dict[str, Method]:
    """One good answer, over and over, as fast as it goes."""

    async def watch_order(peer: str, params: Any) -> Any:
        async with aclosing(liar.told("watch_order", *params)) as told:
            async for raw in told:
                while True:
                    yield raw

    return {"watch_order": watch_order}


def floods_records(liar: Liar) -> dict[str, Method]:
    """One proven record, likewise."""

    async def watch_record(peer: str, params: Any) -> Any:
        raw = await liar.ask("record", *params)
        while True:
            yield raw

    return {"watch_record": watch_record}


def goes_away(liar: Liar) -> dict[str, Method]:
    async def gone(peer: str, params: Any) -> Any:
        raise Unreachable("node.stopping", "it restarts")

    async def stream_gone(peer: str, params: Any) -> Any:
        for answer in [b""]:
            if params:
                raise Unreachable("node.stopping", "it restarts")
            yield answer

    names = ("head", "block", "record", "transaction", "submit_transaction", "submit_order", "providers")
    return {**dict.fromkeys(names, gone), "watch_record": stream_gone, "watch_order": stream_gone}
