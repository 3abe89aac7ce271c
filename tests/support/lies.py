"""Every lie that `tests/malice` tells, by name: see `malice.Lie`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import trio
from tests.support.malice import Liar, Lie, Method

from fondaco.node.keys.keystore import Keystore
from fondaco.node.network.framing import Payloads, greet
from fondaco.node.network.stream import Stream
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import SignedHeader
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.frames import FrameReader, frame, hello
from fondaco.protocol.light import LightBlock, ProvenOutcome, ProvenRecord
from fondaco.protocol.market import Answer, Bid, SignedBid, SignedOrder, deployment_id, lease_id, order_id
from fondaco.protocol.messages import OpenLease
from fondaco.protocol.records import PARAMS, Account, Lease, LeaseState, key_lease
from fondaco.protocol.rpc import Call, FromClient, Item, Reply
from fondaco.protocol.scalars import (
    ChainId,
    GroupIndex,
    MicroCredits,
    Millis,
    TxId,
)
from fondaco.protocol.signing import Signer, sha256
from fondaco.protocol.transactions import SignedTransaction, transaction_id

Bend = Callable[[Liar, bytes, ProvenRecord], Any]


# Records


def bending(prefix: bytes, bend: Bend) -> Callable[[Liar], dict[str, Method]]:
    """Records whose keys begin so are told as `bend` makes them; it may also ask."""

    def methods(liar: Liar) -> dict[str, Method]:
        async def bent(key: bytes, raw: bytes) -> Any:
            if not key.startswith(prefix):
                return raw
            told = bend(liar, key, codec.decode(raw, ProvenRecord))
            told = await told if isinstance(told, Awaitable) else told
            return codec.encode(told)

        async def record(peer: str, params: Any) -> Any:
            return await bent(params[0], await liar.ask("record", *params))

        async def watch_record(peer: str, params: Any) -> Any:
            async with aclosing(liar.told("watch_record", *params)) as told:
                async for raw in told:
                    yield await bent(params[0], raw)

        return {"record": record, "watch_record": watch_record}

    return methods


def rich(liar: Liar, key: bytes, told: ProvenRecord) -> ProvenRecord:
    empty = codec.encode(Account(credits=MicroCredits(0), stake=0))  # type: ignore[arg-type]
    account = codec.decode(told.value or empty, Account)
    return replace(told, value=codec.encode(replace(account, credits=MicroCredits(account.credits + 10**12))))


def no_faucet(liar: Liar, key: bytes, told: ProvenRecord) -> ProvenRecord:
    params = replace(liar.genesis.params, faucet_credits=MicroCredits(0), min_deposit=MicroCredits(1))
    return replace(told, value=codec.encode(params))


async def of_another_key(liar: Liar, key: bytes, told: ProvenRecord) -> ProvenRecord:
    return codec.decode(await liar.ask("record", PARAMS), ProvenRecord)


def absent(liar: Liar, key: bytes, told: ProvenRecord) -> ProvenRecord:
    return replace(told, value=None)


def lease_that(**changes: Any) -> Bend:
    """A lease as it is, but for this; and one made up where there is none."""

    def bend(liar: Liar, key: bytes, told: ProvenRecord) -> ProvenRecord:
        if told.value is None:
            return replace(told, value=b"\x00")
        return replace(told, value=codec.encode(replace(codec.decode(told.value, Lease), **changes)))

    return bend


# Transactions


def outcome(bend: Callable[[Liar, ProvenOutcome], Any]) -> Callable[[Liar], dict[str, Method]]:
    def methods(liar: Liar) -> dict[str, Method]:
        async def transaction(peer: str, params: Any) -> Any:
            told = codec.decode(await liar.ask("transaction", *params), ProvenOutcome)
            return codec.encode(bend(liar, told))

        return {"transaction": transaction}

    return methods


def refused_after_all(liar: Liar, told: ProvenOutcome) -> ProvenOutcome:
    event = replace(codec.decode(told.event, TransactionApplied), code="funds.credits")
    return replace(told, event=codec.encode(event), message="it cannot be paid")


def dropped_and_said_to_be_applied(liar: Liar) -> dict[str, Method]:
    """It keeps every transaction to itself and has the proof of another one stand for it, at some height."""
    proofs: list[ProvenOutcome] = []

    async def submit_transaction(peer: str, params: Any) -> Any:
        return identity_of(params[0])

    async def transaction(peer: str, params: Any) -> Any:
        block = codec.decode(await liar.ask("head"), LightBlock)
        event = TransactionApplied(id=TxId(params[0]), fee=MicroCredits(1), code="", message="")
        made_up = ProvenOutcome(block=block, event=codec.encode(event), index=0, count=1, path=(), message="")
        proofs.append(made_up)
        return codec.encode(made_up)

    return {"submit_transaction": submit_transaction, "transaction": transaction}


def refuses_everything(liar: Liar) -> dict[str, Method]:
    """Neither takes anything nor tells what became of it, and gives reasons."""

    async def refuse(peer: str, params: Any) -> Any:
        raise Refused("funds.credits", "the account holds nothing")

    return dict.fromkeys(("submit_transaction", "transaction", "submit_order"), refuse)


def takes_everything_and_drops_it(liar: Liar) -> dict[str, Method]:
    async def submit_transaction(peer: str, params: Any) -> Any:
        return identity_of(params[0])

    async def submit_order(peer: str, params: Any) -> Any:
        return order_id(liar.chain, codec.decode(params[0], SignedOrder).order)

    return {"submit_transaction": submit_transaction, "submit_order": submit_order}


def identity_of(raw: bytes) -> TxId:
    return transaction_id(codec.decode(raw, SignedTransaction).transaction)


# Orders and answers


def answering(bend: Callable[[Liar, Answer], list[Answer]]) -> Callable[[Liar], dict[str, Method]]:
    """Each answer is passed on as what `bend` makes of it."""

    def methods(liar: Liar) -> dict[str, Method]:
        async def watch_order(peer: str, params: Any) -> Any:
            async with aclosing(liar.told("watch_order", *params)) as told:
                async for raw in told:
                    for one in bend(liar, codec.decode_union(raw, Answer)):
                        yield codec.encode(one)

        return {"watch_order": watch_order}

    return methods


def silent(liar: Liar) -> dict[str, Method]:
    async def watch_order(peer: str, params: Any) -> Any:
        async with aclosing(liar.told("watch_order", *params)) as told:
            async for answer in told:
                if not answer:
                    yield answer

    return {"watch_order": watch_order}


def ends_at_once(liar: Liar) -> dict[str, Method]:
    async def watch_order(peer: str, params: Any) -> Any:
        for answer in list[bytes]():
            yield answer

    return {"watch_order": watch_order}


def without_the_cheap(liar: Liar, answer: Answer) -> list[Answer]:
    """Those of the cheaper provider are kept back."""
    cheap = Keystore(liar.keys / "provider-0" / "keys").info("provider").public_key
    return [] if isinstance(answer, SignedBid) and answer.bid.provider == cheap else [answer]


def undercut(liar: Liar, answer: Answer) -> list[Answer]:
    """Every bid comes at a thousandth of its price, with the signature it had."""
    if not isinstance(answer, SignedBid):
        return [answer]
    return [replace(answer, bid=replace(answer.bid, price_per_hour=MicroCredits(1)))]


def by_strangers(liar: Liar, answer: Answer) -> list[Answer]:
    """Bids of keys that are no providers', at one ucredit, rightly signed, and then the true one."""
    if not isinstance(answer, SignedBid):
        return [answer]
    made_up = [signed_by(liar, answer.bid, number) for number in range(40)]
    return [*made_up, answer]


def signed_by(liar: Liar, bid: Bid, number: int) -> SignedBid:
    signer = Signer(sha256(b"stranger %d" % number))
    made_up = replace(bid, provider=signer.public_key, price_per_hour=MicroCredits(1))
    return SignedBid(bid=made_up, signature=signer.sign(liar.chain, made_up))


def replayed(liar: Liar, answer: Answer) -> list[Answer]:
    """The answers to another order come too."""
    signer = Signer(sha256(b"stranger"))
    if not isinstance(answer, SignedBid):
        return [answer]
    old = replace(answer.bid, order=type(answer.bid.order)(bytes(32)), provider=signer.public_key)
    return [SignedBid(bid=old, signature=signer.sign(liar.chain, old))]


def listing(bend: Callable[[list[bytes]], list[bytes]]) -> Callable[[Liar], dict[str, Method]]:
    def methods(liar: Liar) -> dict[str, Method]:
        async def providers(peer: str, params: Any) -> Any:
            return bend(await liar.ask("providers"))

        return {"providers": providers}

    return methods


def made_up_keys(count: int) -> list[bytes]:
    return [sha256(b"nobody %d" % number) for number in range(count)]


# The past for the present


def frozen(midway: bool) -> Callable[[Liar], dict[str, Method]]:
    """Shows the blocks and records of when it first looked, or of when the lease was about to be made."""

    def methods(liar: Liar) -> dict[str, Method]:
        kept: dict[bytes, Any] = {}
        froze = not midway

        async def once(name: str, params: Any) -> Any:
            key = repr((name, params)).encode()
            if key not in kept or not froze:
                kept[key] = await liar.ask(name, *params)
            return kept[key]

        async def head(peer: str, params: Any) -> Any:
            return await once("head", params)

        async def record(peer: str, params: Any) -> Any:
            return await once("record", params)

        async def watch_record(peer: str, params: Any) -> Any:
            yield await once("record", params)
            await trio.sleep_forever()

        async def submit_transaction(peer: str, params: Any) -> Any:
            nonlocal froze
            for message in codec.decode(params[0], SignedTransaction).transaction.messages:
                if isinstance(message, OpenLease):
                    order = order_id(liar.chain, message.order.order)
                    await once("record", [key_lease(lease_id(deployment_id(order), GroupIndex(0)))])
                    froze = True
            return await liar.ask("submit_transaction", *params)

        async def transaction(peer: str, params: Any) -> Any:
            if froze and midway:
                await trio.sleep_forever()
            return await liar.ask("transaction", *params)

        return {
            "head": head,
            "record": record,
            "watch_record": watch_record,
            "submit_transaction": submit_transaction,
            "transaction": transaction,
        }

    return methods


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


LIES: dict[str, Lie] = {
    # Forged records
    "a balance with the proof of another": Lie(bending(b"account/", rich), fault="light.proof"),
    "parameters": Lie(bending(PARAMS, no_faucet), fault="light.proof"),
    "the record of another key": Lie(bending(b"account/", of_another_key), fault="light.proof"),
    "that there is no account": Lie(bending(b"account/", absent), fault="light.proof"),
    "that there is no lease": Lie(bending(b"lease/", absent), fault="light.proof"),
    "a lease at another price": Lie(
        bending(b"lease/", lease_that(price_per_hour=MicroCredits(1))), fault="light.proof"
    ),
    "that a lease is active": Lie(bending(b"lease/", lease_that(state=LeaseState.ACTIVE)), fault="light.proof"),
    "that a lease is closed and paid nothing": Lie(
        bending(b"lease/", lease_that(state=LeaseState.CLOSED, paid=MicroCredits(0), closed_at=Millis(1))),
        fault="light.proof",
    ),
    "that a provider is unknown": Lie(bending(b"provider/", absent), fault="light.proof"),
    # Outcomes
    "applied, of what it dropped": Lie(dropped_and_said_to_be_applied, fault="light.outcome"),
    "refused, of what was applied": Lie(outcome(refused_after_all), fault="light.outcome"),
    "no to everything": Lie(refuses_everything),
    "yes to everything, and drops it": Lie(takes_everything_and_drops_it),
    # Bids
    "no bids at all": Lie(silent),
    "that nobody will bid any more": Lie(ends_at_once),
    "only the dear bids": Lie(answering(without_the_cheap)),
    "cheaper bids than were made": Lie(answering(undercut), fault="signature.bad"),
    "bids of strangers": Lie(answering(by_strangers), fault="light.strangers"),
    "bids on another order": Lie(answering(replayed), fault="light.answer"),
    "no providers": Lie(listing(lambda keys: [])),
    "providers that are none": Lie(listing(lambda keys: keys + made_up_keys(20)), fault="light.providers"),
    # The past
    "nothing after the first look": Lie(frozen(midway=False)),
    "nothing after the lease was ordered": Lie(frozen(midway=True)),
    # Stalls
    "hangs": Lie(hangs, slow=True),
    "mute": Lie(stream=mute, slow=True),
    "a byte a second": Lie(stream=drips, slow=True),
    "half an answer": Lie(stream=greeted(stops_midway), slow=True),
    "away": Lie(goes_away),
    # Floods
    "answers without end": Lie(floods_answers, fault="light.flood"),
    "a record without end": Lie(floods_records),
    "thousands of providers": Lie(listing(lambda keys: keys + made_up_keys(5_000)), fault="light.flood"),
    "frames beyond the limit": Lie(stream=greeted(beyond_the_limit), slow=True, fault="frame.too_large"),
    "frames up to the limit": Lie(stream=greeted(up_to_the_limit), slow=True, fault="codec"),
    "items beyond the credit": Lie(stream=greeted(beyond_the_credit), slow=True, fault="codec"),
    # Hellos
    "another chain": Lie(stream=of_another_chain, slow=True, fault="hello.chain"),
    "no hello": Lie(stream=no_hello, slow=True, fault="codec"),
}

DAILY = {
    "a balance with the proof of another",
    "that a lease is active",
    "applied, of what it dropped",
    "refused, of what was applied",
    "only the dear bids",
    "nothing after the lease was ordered",
    "hangs",
    "answers without end",
}
"""One of each kind, for every day; the others are for nights."""


# A second chain


def signed_twice(liar: Liar) -> dict[str, Method]:
    """Every header it shows is of another chain, with another state, which all validators signed as well."""
    return {name: showing_another_chain(liar, name) for name in ("head", "block")}


def signed_twice_when_asked_back(liar: Liar) -> dict[str, Method]:
    """It shows the true head, and another one when it is asked for that height again."""
    return {"block": showing_another_chain(liar, "block")}


def showing_another_chain(liar: Liar, method: str) -> Method:
    signers = {
        key.public_key: Keystore(home / "keys").load("validator", (home / "passphrase").read_text()).signer()
        for home in sorted(liar.keys.glob("validator-*"))
        for key in [Keystore(home / "keys").info("validator")]
    }

    def forked(block: LightBlock) -> LightBlock:
        header = replace(block.signed.header, state_root=sha256(b"another state"))
        certificate = replace(block.signed.certificate, value=header.hash(), signatures=())
        votes = tuple(
            signers[member.public_key].sign(liar.chain, certificate.vote()) for member in block.validators
        )
        signed = SignedHeader(header=header, certificate=replace(certificate, signatures=votes))
        return replace(block, signed=signed)

    async def shown(peer: str, params: Any) -> Any:
        return codec.encode(forked(codec.decode(await liar.ask(method, *params), LightBlock)))

    return shown


FORKS = {"from the start": Lie(signed_twice), "before it spends": Lie(signed_twice_when_asked_back, slow=True)}
