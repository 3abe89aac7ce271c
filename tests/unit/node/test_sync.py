"""Catching up from peers, some of which lie: what is taken, in which batches, and who is blamed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import Town, stored
from tests.support.ledger import Actor

from fondaco.node.chain import Chain
from fondaco.node.sync import Sync, SyncService
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.scalars import INT_MAX, Millis, Signature

Methods = dict[str, Callable[..., Awaitable[Any]]]


class Learner:
    """A node that is down to its chain and its sync, and peers that it may call."""

    def __init__(self, town: Town, path: Path) -> None:
        self.town = town
        self.full, self.chain = town.open(path / "full.db"), town.open(path / "learner.db")
        self.peers: dict[str, Methods] = {}
        self.calls: list[tuple[str, str, list[Any]]] = []
        self.blamed: list[tuple[str, str]] = []
        self.sync = Sync(self.chain, lambda: list(self.peers), self._call, self._apply, self._blame)

    async def _call(self, peer: str, method: str, params: list[Any]) -> Any:
        self.calls.append((peer, method, params))
        return await self.peers[peer][method]("learner", params)

    async def _apply(self, block: Block, certificate: CommitCertificate) -> bool:
        self.chain.commit(block, certificate)
        return True

    def _blame(self, peer: str, fault: PeerFault) -> None:
        self.blamed.append((peer, fault.code))

    @property
    def honest(self) -> Methods:
        return SyncService(self.full).methods()

    def answering(self, pairs: Any, height: int = 9) -> Methods:
        """A peer that says it is at `height` and gives `pairs` whatever it is asked."""

        async def status(peer: str, params: Any) -> Any:
            return [height]

        async def blocks(peer: str, params: Any) -> Any:
            return pairs

        return {"status": status, "blocks": blocks}

    async def catch_up(self) -> None:
        with trio.fail_after(10):
            await self.sync._catch_up()


@pytest.fixture
def town() -> Town:
    return Town("alice", "bob", validators=4)


@pytest.fixture
def learner(town: Town, tmp_path: Path) -> Iterator[Learner]:
    learner = Learner(town, tmp_path)
    alice, bob = town.actors("alice", "bob")
    for amount in range(1, 6):
        town.grow(learner.full, alice.pays(bob, amount))
    yield learner
    learner.full.close()
    learner.chain.close()


def pair(chain: Chain, height: int) -> list[bytes]:
    return [codec.encode(one) for one in stored(chain, height)]


async def test_a_node_that_was_down_catches_up_block_by_block(learner: Learner) -> None:
    learner.peers["honest"] = learner.honest
    await learner.catch_up()
    assert learner.chain.head == learner.full.head
    assert learner.sync.fetched == 5
    assert learner.blamed == []
    await learner.sync.wait_caught_up()


async def test_long_chains_come_in_batches(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SYNC_BATCH_BLOCKS", 2)
    learner.peers["honest"] = learner.honest
    await learner.catch_up()
    asked = [params for _, method, params in learner.calls if method == "blocks"]
    assert asked == [[1, 3], [3, 5], [5, 6]]
    assert learner.chain.head == learner.full.head


async def test_batches_are_bounded_in_bytes_but_never_empty(
    learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SYNC_BATCH_BYTES", 1)
    assert len(await SyncService(learner.full).blocks("peer", [1, 6])) == 1
    learner.peers["honest"] = learner.honest
    await learner.catch_up()
    assert learner.chain.head == learner.full.head


async def test_a_node_gives_no_more_than_a_batch_whatever_it_is_asked(
    learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SYNC_BATCH_BLOCKS", 3)
    service = SyncService(learner.full)
    assert len(await service.blocks("peer", [1, INT_MAX])) == 3
    assert await service.blocks("peer", [INT_MAX, INT_MAX]) == []
    assert await service.blocks("peer", [-5, -2]) == []
    for wrong in (None, [], [1], [1, "2"], [1, 2, 3], [True, 2]):
        with pytest.raises(Refused) as refusal:
            await service.blocks("peer", wrong)
        assert refusal.value.code == "request.params"


async def test_peers_that_are_behind_or_level_are_asked_for_nothing(learner: Learner) -> None:
    learner.town.copy(learner.full, learner.chain)
    learner.peers["level"] = learner.honest
    learner.peers["behind"] = learner.answering([], height=2)
    await learner.catch_up()
    assert {method for _, method, _ in learner.calls} == {"status"}
    assert learner.blamed == []


async def test_a_peer_that_does_not_answer_is_passed_over_without_blame(learner: Learner) -> None:
    async def status(peer: str, params: Any) -> Any:
        raise Unreachable("rpc.timeout", "silence")

    learner.peers |= {"silent": {"status": status}, "honest": learner.honest}
    await learner.catch_up()
    assert learner.chain.head == learner.full.head
    assert learner.blamed == []


def unsigned(pairs: list[list[bytes]]) -> Any:
    certificate = codec.decode(pairs[0][1], CommitCertificate)
    return [[pairs[0][0], codec.encode(replace(certificate, signatures=(None,) * 4))]]


def forged(pairs: list[list[bytes]]) -> Any:
    certificate = codec.decode(pairs[0][1], CommitCertificate)
    return [[pairs[0][0], codec.encode(replace(certificate, signatures=(Signature(bytes(64)),) * 4))]]


def without_transactions(pairs: list[list[bytes]]) -> Any:
    """The header and its signatures are genuine; what lies under the header is not."""
    block = codec.decode(pairs[0][0], Block)
    return [[codec.encode(replace(block, transactions=())), pairs[0][1]]]


def with_evidence(pairs: list[list[bytes]]) -> Any:
    block = codec.decode(pairs[0][0], Block)
    return [[codec.encode(replace(block, evidence=(b"made up",))), pairs[0][1]]]


def of_another_block(pairs: list[list[bytes]]) -> Any:
    block = codec.decode(pairs[0][0], Block)
    other = replace(block, header=replace(block.header, time=Millis(block.header.time + 1)))
    return [[codec.encode(other), pairs[0][1]]]


LIES: list[tuple[Any, str]] = [
    (unsigned, "certificate.weak"),
    (forged, "signature.bad"),
    (without_transactions, "block.data"),
    (with_evidence, "block.evidence"),
    (of_another_block, "block.value"),
    (lambda pairs: pairs[1:], "sync.order"),
    (lambda pairs: [[pairs[0][0], pairs[1][1]]], "sync.order"),
    (lambda pairs: [], "sync.empty"),
    (lambda pairs: {}, "sync.answer"),
    (lambda pairs: [[b"x"]], "sync.answer"),
    (lambda pairs: [["x", "y"]], "sync.answer"),
    (lambda pairs: [[b"", b""]], "codec.syntax"),
]


@pytest.mark.parametrize(("lie", "code"), LIES)
async def test_a_lying_peer_is_blamed_and_an_honest_one_asked_next(
    learner: Learner, lie: Callable[[Any], Any], code: str
) -> None:
    pairs = [pair(learner.full, height) for height in range(1, 6)]
    learner.peers["liar"] = learner.answering(lie(pairs))
    await learner.catch_up()
    assert learner.chain.head.height == 0
    assert learner.blamed == [("liar", code)]
    learner.peers["honest"] = learner.honest
    await learner.catch_up()
    assert learner.chain.head == learner.full.head


@pytest.mark.parametrize("status", [None, 7, [], ["7"], [1, 2]])
async def test_a_height_that_is_none_is_blamed(learner: Learner, status: Any) -> None:
    async def say(peer: str, params: Any) -> Any:
        return status

    learner.peers["liar"] = {"status": say}
    await learner.catch_up()
    assert learner.blamed == [("liar", "sync.answer")]


async def test_a_peer_that_repeats_old_blocks_for_ever_is_left(learner: Learner) -> None:
    learner.chain.commit(*stored(learner.full, 1))
    learner.peers["broken record"] = learner.answering([pair(learner.full, 1)])
    await learner.catch_up()
    assert learner.blamed == [("broken record", "sync.empty")]


async def test_blocks_that_consensus_brought_meanwhile_are_skipped(learner: Learner) -> None:
    async def blocks(peer: str, params: Any) -> Any:
        batch = await SyncService(learner.full).blocks(peer, params)
        learner.chain.commit(*stored(learner.full, 1))
        learner.chain.commit(*stored(learner.full, 2))
        return batch

    learner.peers["honest"] = {**learner.honest, "blocks": blocks}
    await learner.catch_up()
    assert learner.chain.head == learner.full.head
    assert learner.sync.fetched == 3


async def test_it_looks_again_when_asked_and_after_a_stale_while(
    learner: Learner, autojump_clock: trio.testing.MockClock
) -> None:
    alice, bob = learner.town.actors("alice", "bob")
    learner.peers["honest"] = learner.honest
    async with trio.open_nursery() as nursery:
        nursery.start_soon(learner.sync.run)
        await learner.sync.wait_caught_up()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        pay(learner, alice, bob)
        learner.sync.request()
        await trio.testing.wait_all_tasks_blocked()
        assert learner.chain.head == learner.full.head
        assert trio.current_time() == began
        pay(learner, alice, bob)
        await trio.sleep(1.5 * learner.chain.ledger.params.heartbeat_ms / 1_000 + 0.1)
        assert learner.chain.head == learner.full.head
        nursery.cancel_scope.cancel()


def pay(learner: Learner, alice: Actor, bob: Actor) -> None:
    learner.town.grow(learner.full, alice.pays(bob, 1))
