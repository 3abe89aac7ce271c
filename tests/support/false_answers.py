"""What a lying node makes of records, outcomes, orders and their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from tests.support.malice import Liar, Method

from fondaco.node.keys.keystore import Keystore
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.light import LightBlock, ProvenOutcome, ProvenRecord
from fondaco.protocol.market import Answer, Bid, SignedBid, SignedOrder, order_id
from fondaco.protocol.records import PARAMS, Account, Lease
from fondaco.protocol.scalars import (
    MicroCredits,
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
