"""Whatever comes in, in whatever order: bounds hold, accounts take turns, and blocks can hold what is offered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.chains import Town, town_chain
from tests.support.ledger import RICH, Draft

from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.mempool import Mempool
from fondaco.node.mempool.waiting import Pending
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Millis

NAMES = ("alice", "bob", "carol")
SMALL = {
    "MEMPOOL_TRANSACTIONS": 6,
    "MEMPOOL_ACCOUNT_TRANSACTIONS": 3,
    "MEMPOOL_BYTES": 1_700,
    "MEMPOOL_RECHECKS": 2,
}

who = st.sampled_from(NAMES)
amounts = st.sampled_from([1, RICH // 3, RICH // 2])
tips = st.sampled_from([0, 0, 100, 1_000])
comes = st.tuples(st.just("comes"), who, amounts, tips)
asks = st.tuples(st.just("asks"), who, st.integers(1, 2), tips)
elsewhere = st.tuples(st.just("elsewhere"), who, amounts, tips)
"""In a block of others, without having waited here."""
block = st.tuples(st.just("block"), who, st.integers(0, 4), st.just(0))


@contextmanager
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(limits, name, value)
        yield


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.one_of(comes, comes, comes, asks, elsewhere, block), max_size=25))
def test_what_waits_keeps_every_promise(steps: list[tuple[str, str, int, int]]) -> None:
    with (
        TemporaryDirectory() as folder,
        small(),
        town_chain(Path(folder), *NAMES, faucet_credits=2) as (town, chain),
    ):
        mempool = Mempool(chain)
        for kind, name, number, tip in steps:
            step(town, chain, mempool, kind, draft_of(town, kind, name, number, tip), number)
            check(mempool)
        offered = list(mempool.candidates())
        assert interleaved(mempool, offered)
        for raw in offered:
            chain.ledger.check_tx(raw, now=clock.now())


def draft_of(town: Town, kind: str, name: str, number: int, tip: int) -> Draft:
    actor = town.actors(name)[0]
    return replace(
        actor.asks_faucet(number) if kind == "asks" else actor.pays(town.actors("bob")[0], number), tip=tip
    )


def step(town: Town, chain: Chain, mempool: Mempool, kind: str, draft: Draft, number: int) -> None:
    at = Millis(max(clock.now(), chain.head.time + 1))
    if kind == "block":
        town.grow(chain, *town.propose_on(chain, *list(mempool.candidates())[:number], at=at).transactions, at=at)
        return
    raw = town.sign(draft, at=at)
    if kind == "elsewhere":
        town.grow(chain, *town.propose_on(chain, raw, at=at).transactions, at=at)
        return
    if codes := refusals(mempool, raw):
        assert codes <= {"mempool.full", "mempool.quota", "tx.fee", "funds.credits"}


def refusals(mempool: Mempool, raw: bytes) -> set[str]:
    """Why it does not come in; nothing if it does."""
    try:
        mempool.add(raw)
    except Refused as refusal:
        return {refusal.code}
    return set()


def check(mempool: Mempool) -> None:
    waiting = mempool._waiting
    pending = list(waiting.by_id.values())
    assert len(pending) <= limits.MEMPOOL_TRANSACTIONS
    assert waiting.bytes == sum(len(one.raw) for one in pending) <= limits.MEMPOOL_BYTES
    for key, account in waiting.accounts.items():
        own = [one for one in pending if one.checked.sender == key]
        assert 0 < len(account.pending) == len(own) <= limits.MEMPOOL_ACCOUNT_TRANSACTIONS
        assert account.bytes == sum(len(one.raw) for one in own)
        assert account.fees == sum(one.checked.fee for one in own)
        assert account.spends == sum(one.spends for one in own)
    assert sorted(waiting.by_digest.values()) == sorted(waiting.by_id)
    assert set(waiting.turning) == {one.checked.id for one in pending if not one.is_simple}
    assert set(mempool._doubted) <= set(waiting.by_id)
    assert sum(map(len, waiting._expiring.values())) == len(pending)
    assert len(waiting._cheapest) <= 2 * len(pending) + limits.MEMPOOL_SWEEP


def interleaved(mempool: Mempool, offered: list[bytes]) -> bool:
    """The turns of accounts only grow; within one, ranks only fall, and who came first is first among equals."""
    by_raw: dict[bytes, Pending] = {one.raw: one for one in mempool._waiting.by_id.values()}
    taken, places = Counter[bytes](), list[tuple[int, int, int]]()
    for one in (by_raw[raw] for raw in offered):
        places.append((taken[one.checked.sender], -one.rank, one.arrival))
        taken[one.checked.sender] += 1
    return places == sorted(places)
