"""Attacks in the protocols: what is no frame, no hello, no request, no message; each once, and as fuzz."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio
from tests.support import abuses
from tests.support.attack_floods import bid, order, transfer
from tests.support.attack_wire import GONE
from tests.support.attackers import Target, attack, peer_at
from tests.support.siege import rich

from fondaco.node import agreement, gossip, sync
from fondaco.node.book import reconcile
from fondaco.node.gossip import Topic, topic_name
from fondaco.node.network.host import Host
from fondaco.protocol import channel, codec, light, snapshots
from fondaco.protocol.agreement import SignedVote, Vote, VoteKind
from fondaco.protocol.evidence import DuplicateVote
from fondaco.protocol.frames import Hello, frame, hello
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.control import Control, IHave, Prune
from fondaco.protocol.gossip.protobuf import field, varint
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.rpc import Call, Cancel, Credit
from fondaco.protocol.scalars import ChainId, Hash, Height, Round, Signature
from fondaco.protocol.signing import Signer

LIGHT = (
    *("genesis", "head", "block", "record", "watch_record", "submit_transaction", "transaction", "submit_order"),
    *("watch_order", "providers", "live_leases", "auditors", "report_fork"),
)
METHODS: dict[str, Sequence[str]] = {
    light.PROTOCOL: LIGHT,
    sync.PROTOCOL: ("status", "blocks"),
    snapshots.PROTOCOL: ("list", "chunk", "block"),
    reconcile.PROTOCOL: ("digests", "ids", "items"),
}
PARAMETERS: tuple[Any, ...] = (
    [],
    None,
    0,
    b"",
    {},
    [None],
    [-1],
    [2**63 - 1],
    [2**63 - 1, 2**63 - 1],
    [-(2**63), 5],
    [5, -5],
    [b""],
    [b"x" * 32],
    [b"x" * 100_000],
    ["text"],
    [[[[[]]]]],
    [b"\xff" * 32, b"\xff" * 20],
    [True, True],
    [b"\x00", b""],
    {"a": 1},
)
HANDSHAKEN = (*METHODS, agreement.PROTOCOL)


@dataclass(frozen=True, slots=True)
class Words:
    """What is said on one stream, and whether we greet first."""

    protocol: str
    parts: tuple[bytes, ...]
    greet: bool = True


def call(method: str, params: Any, number: int = 1, timeout_ms: int = 1_000) -> bytes:
    return frame(codec.encode(Call(id=number, method=method, timeout_ms=timeout_ms, params=codec.pack(params))))


def bad_hellos(chain: ChainId) -> dict[str, bytes]:
    ours = hello(chain)
    return {
        "nothing": b"",
        "garbage": b"\xff" * 200,
        "an empty frame": bytes(4),
        "a huge frame": b"\x7f\xff\xff\xff",
        "another chain": frame(codec.encode(hello(ChainId("elsewhere-1")))),
        "another version": frame(codec.encode(Hello(version=9, chain=chain, frame_bytes=1, note=b""))),
        "a long note": frame(codec.encode(hello(chain, note=b"x" * 5_000))),
        "no message": frame(b"\x93\x01\x02\x03"),
        "cut short": frame(codec.encode(ours))[:-3],
        "a frame of another protocol": call("head", []),
    }


def bad_frames() -> dict[str, bytes]:
    """Of requests."""
    good = Call(id=1, method="head", timeout_ms=0, params=codec.pack([]))
    return {
        "garbage": frame(b"\xff" * 100),
        "empty": bytes(4),
        "an unknown tag": frame(codec.pack([99, 1, 2])),
        "no such method": call("no_such_method", []),
        "a method of a megabyte": frame(b"\x95\x01\x01" + b"\xda\xff\xff" + b"m" * 65_535 + b"\x00\x40"),
        "parameters that are none": frame(
            codec.encode(Call(id=1, method="head", timeout_ms=0, params=b"\xc1\xc1"))
        ),
        "a nest of lists": frame(codec.encode(Call(id=1, method="head", timeout_ms=0, params=b"\x91" * 2_000))),
        "an id twice": frame(codec.encode(good)) + call("watch_record", [b"x"]) * 2,
        "an answer": frame(codec.encode(Cancel(id=7))) + frame(codec.pack([4, 1, b""])),
        "credit for nothing": frame(codec.encode(Credit(id=99, size=2**62))),
        "credit beyond all": call("watch_record", [b"x"]) + frame(codec.encode(Credit(id=1, size=2**62))),
        "a frame too long": b"\x7f\xff\xff\xff" + bytes(100),
        "four megabytes": frame(bytes(4 * 2**20)),
        "a thousand requests": b"".join(call("head", [], number) for number in range(1, 1_001)),
        "a deadline long gone": call("transaction", [b"x" * 32], timeout_ms=1),
    }


def bad_rpcs(chain: ChainId) -> dict[str, bytes]:
    """Of gossip."""
    name = topic_name(chain, Topic.ORDERS)
    batch = wire.encode(Rpc(messages=(Message(topic=name, data=b"\xc1"),)))
    ids = tuple(number.to_bytes(20, "big") for number in range(5_000))
    said: dict[str, bytes] = {
        "garbage": b"\xff" * 64,
        "a length too long": b"\xff\xff\xff\xff\x7f",
        "an endless length": b"\xff" * 20,
        "no protobuf": wire.delimit(b"\xff" * 64),
        "a topic that is no text": wire.delimit(field(1, b"\x08\x01" + field(2, b"\xff\xfe"))),
        "a topic too long": wire.delimit(field(1, b"\x08\x01" + field(2, b"t" * 1_000))),
        "a message with an author": wire.delimit(field(2, field(1, b"me") + field(2, b"x") + field(4, b"t"))),
        "a message without a topic": wire.delimit(field(2, field(2, b"x"))),
        "subscriptions beyond all": wire.delimit(
            b"".join(field(1, b"\x08\x01" + field(2, b"%d" % number)) for number in range(65))
        ),
        "a batch that is none": wire.delimit(batch),
        "an empty batch": wire.delimit(wire.encode(Rpc(messages=(Message(topic=name, data=b"\x90"),)))),
        "numbers in a batch": wire.delimit(
            wire.encode(Rpc(messages=(Message(topic=name, data=codec.pack([1, 2])),)))
        ),
        "a prune for ever": wire.delimit(
            wire.encode(Rpc(control=Control(prune=(Prune(topic=name, backoff_s=2**63 - 1),))))
        ),
        "grafts of what nobody wants": wire.delimit(
            wire.encode(Rpc(control=Control(graft=tuple(f"topic {number}" for number in range(64)))))
        ),
        "ids of no length": wire.delimit(
            wire.encode(Rpc(control=Control(ihave=(IHave(topic=name, ids=(b"", b"x" * 99)),), iwant=(b"",))))
        ),
        "five thousand lies": wire.delimit(
            wire.encode(Rpc(control=Control(ihave=(IHave(topic=name, ids=ids),), iwant=ids)))
        ),
        "a field of nothing": wire.delimit(varint(7 << 3 | 5) + bytes(4)),
    }
    wants = Rpc(subscriptions=(Subscription(topic=name, subscribe=True),))
    return {what: wire.delimit(wire.encode(wants)) + data for what, data in said.items()}


def vote_of(signer: Signer, chain: ChainId, vote: Vote) -> SignedVote:
    return SignedVote(vote=vote, validator=signer.public_key, signature=signer.sign(chain, vote))


def bad_consensus(chain: ChainId) -> dict[str, bytes]:
    """What one who is no validator may say."""
    signer = rich(3)
    votes = [
        Vote(
            kind=VoteKind.PREVOTE,
            height=Height(height),
            round=Round(round_number),
            value=Hash(bytes(32)),
            valid_round=None,
        )
        for height, round_number in ((1, 0), (2**62, 0), (5, 2**31 - 1))
    ]
    signed = [vote_of(signer, chain, vote) for vote in votes]
    return {
        "garbage": frame(b"\xff" * 100),
        "empty": bytes(4),
        "an unknown tag": frame(codec.pack([99, 1])),
        "a stranger's votes": b"".join(frame(codec.encode(one)) for one in signed),
        "a vote with a bad signature": frame(codec.encode(replace(signed[0], signature=Signature(bytes(64))))),
        "evidence of nothing": frame(codec.encode(DuplicateVote(first=signed[0], second=signed[0]))),
        "ten thousand votes": frame(codec.encode(signed[0])) * 10_000,
        "four megabytes": frame(bytes(4 * 2**20)),
    }


def everything(chain: ChainId) -> dict[str, Words]:
    """All malformed words by a name."""
    greeting = frame(codec.encode(hello(chain)))
    made: dict[str, Words] = {}
    for protocol in HANDSHAKEN:
        for what, data in bad_hellos(chain).items():
            made[f"{protocol}: hello: {what}"] = Words(protocol, (data,))
    for protocol, methods in METHODS.items():
        for what, data in bad_frames().items():
            made[f"{protocol}: frame: {what}"] = Words(protocol, (greeting, data))
        for method in methods:
            calls = [call(method, params, number) for number, params in enumerate(PARAMETERS, start=1)]
            made[f"{protocol}: {method}"] = Words(protocol, (greeting, *calls))
    for what, data in bad_rpcs(chain).items():
        made[f"gossip: {what}"] = Words(gossip.PROTOCOL, (data,))
    for what, data in bad_consensus(chain).items():
        made[f"consensus: {what}"] = Words(agreement.PROTOCOL, (greeting, data))
    for what, data in {**bad_frames(), **bad_hellos(chain)}.items():
        made[f"lease: {what}"] = Words(channel.PROTOCOL, (data,))
    return made


async def say(host: Host, target: Target, words: Words, *, listen_s: float) -> None:
    """Say them on a stream of their own, and hear what comes for a while."""
    with contextlib.suppress(*GONE), trio.move_on_after(10):
        stream = await host.open_stream(target.peer, words.protocol)
        for part in words.parts:
            await stream.write(part)
        with trio.move_on_after(listen_s):
            while await stream.read():
                pass
        await stream.reset()


@attack
async def malformed(targets: list[Target]) -> dict[str, Any]:
    """Every kind of malformed input, each from a peer of its own, at every target."""
    kinds = 0
    limiter = trio.CapacityLimiter(24)

    async def one(target: Target, number: int, work: Callable[[Host], Any]) -> None:
        async with limiter, peer_at(f"127.5.{number % 200}.{number // 200 + 1}", 7_000 + number) as host:
            with contextlib.suppress(*GONE), trio.move_on_after(15):
                await host.connect(target.address)
                await work(host)

    async with trio.open_nursery() as nursery:
        for target in targets:
            for kind in abuses.ABUSES.values():
                kinds += 1
                nursery.start_soon(one, target, kinds, lambda host, do=kind, to=target: do(host, to.peer))
            for words in everything(target.chain).values():
                kinds += 1
                nursery.start_soon(
                    one, target, kinds, lambda host, do=words, to=target: say(host, to, do, listen_s=0.1)
                )
    return {"kinds": kinds}


def seeds_of_fuzz(chain: ChainId) -> list[Words]:
    """Well made words of every protocol, to be spoilt."""
    greeting = frame(codec.encode(hello(chain)))
    signed = order(chain, rich(0))
    vote = Vote(
        kind=VoteKind.PRECOMMIT,
        height=Height(3),
        round=Round(0),
        value=Hash(bytes(32)),
        valid_round=None,
    )
    votes = vote_of(rich(0), chain, vote)
    answer = codec.encode(bid(chain, rich(0), signed))
    batches = [
        (Topic.ORDERS, codec.encode(signed)),
        (Topic.BIDS, answer),
        (Topic.TRANSACTIONS, transfer(chain, rich(0))),
    ]
    made = [
        Words(protocol, (greeting, call(method, params)))
        for protocol, methods in METHODS.items()
        for method in methods
        for params in ([], [b"x" * 32], [1, 5], [codec.encode(signed)], [transfer(chain, rich(0))])
    ]
    made += [
        Words(
            gossip.PROTOCOL,
            (
                wire.delimit(
                    wire.encode(
                        Rpc(
                            subscriptions=(Subscription(topic=topic_name(chain, topic), subscribe=True),),
                            messages=(Message(topic=topic_name(chain, topic), data=codec.pack([item])),),
                            control=Control(
                                ihave=(IHave(topic=topic_name(chain, topic), ids=(b"i" * 20,)),),
                                iwant=(b"i" * 20,),
                                graft=(topic_name(chain, topic),),
                            ),
                        )
                    )
                ),
            ),
        )
        for topic, item in batches
        for _ in range(8)
    ]
    made += [Words(agreement.PROTOCOL, (greeting, frame(codec.encode(votes))))] * 16
    made += [Words(channel.PROTOCOL, (greeting, call("status", [])))] * 8
    return made


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut, doubled, or all of it noise."""
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(1, 5_000))
        case 1:
            return data[: chance.randrange(len(data) + 1)]
        case 2:
            at = chance.randrange(len(data) + 1)
            return data[:at] + chance.randbytes(chance.randrange(1, 50)) + data[at:]
        case 3:
            return data * chance.randrange(2, 50)
        case _:
            changed = bytearray(data)
            for _ in range(chance.randrange(1, 8)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            return bytes(changed)


@attack
async def fuzz(targets: list[Target], *, seconds: float, seed: int) -> dict[str, Any]:
    """Spoilt words on every protocol; whoever is cut off comes back as another."""
    said = banned = 0
    chance = random.Random(seed)

    async def one(target: Target, number: int) -> None:
        nonlocal said, banned
        seeds = seeds_of_fuzz(target.chain)
        life = 0
        while True:
            life += 1
            async with peer_at(f"127.{50 + number}.{life % 250}.1", 100_000 * (number + 1) + life) as host:
                with contextlib.suppress(*GONE):
                    await host.connect(target.address)
                    while host.is_connected(target.peer):
                        words = chance.choice(seeds)
                        *first, last = words.parts
                        kept = tuple(first) if chance.randrange(8) else tuple(spoilt(one, chance) for one in first)
                        with trio.move_on_after(2):
                            await say(
                                host,
                                target,
                                Words(words.protocol, (*kept, spoilt(last, chance))),
                                listen_s=chance.choice((0, 0, 0.05)),
                            )
                        said += 1
                        await trio.sleep(0.001)  # a stream that is refused at once gives nobody a turn
                        if not chance.randrange(20):
                            noise = chance.randbytes(chance.randrange(1, 3_000))
                            layer = chance.choice((abuses.on_a_new_stream(noise), abuses.on_the_wire(noise)))
                            with trio.move_on_after(2), contextlib.suppress(*GONE, IndexError):  # hung up by now
                                await layer(host, target.peer)
                    banned += 1

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(2 * len(targets)):
                nursery.start_soon(one, targets[number % len(targets)], number)
    return {"said": said, "cut_off": banned}
