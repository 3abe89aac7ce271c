"""Compact proposals at a node: what it asks its peers for, and gives them; nothing hangs on an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import stored
from tests.support.court import PATIENT, Court, Life, living
from tests.support.network import until

from fondaco.consensus.blocks import name_of
from fondaco.consensus.rebuilding import WHOLE_BYTES, Rebuilder
from fondaco.node.agreement.proposals import FETCH_MS
from fondaco.node.network.peers import PeerId, peer_id_of
from fondaco.protocol import limits
from fondaco.protocol.agreement import Block, CompactProposal, VoteKind
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import Hash, Signature

Answer = Callable[[list[bytes]], Awaitable[Any]]


class Peers:
    """What a node may ask, by peer; who is not here does not answer."""

    def __init__(self) -> None:
        self.answers: dict[PeerId, Answer] = {}
        self.asked: list[tuple[PeerId, list[bytes]]] = []

    async def __call__(self, peer: PeerId, method: str, params: Any, *, timeout_ms: int) -> Any:
        assert (method, timeout_ms) == ("transactions", FETCH_MS)
        self.asked.append((peer, params[0]))
        if peer not in self.answers:
            raise Unreachable("rpc.timeout", "no answer")
        return await self.answers[peer](params[0])


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path, PATIENT)


@pytest.fixture
def peers() -> Peers:
    return Peers()


def a_life(court: Court, peers: Peers) -> Life:
    life = court.life()
    life.agreement.proposals.call = peers
    return life


def a_block(court: Court) -> Block:
    """Too many transactions to travel whole."""
    alice, bob = court.town.actors("alice", "bob")
    block: Block = court.block(*(alice.pays(bob, 1 + number) for number in range(30)))
    assert sum(map(len, block.transactions)) > WHOLE_BYTES
    return block


def compact(court: Court, block: Block) -> CompactProposal:
    said = Rebuilder(lambda _: True, lambda _: None, list).shorten(court.proposal(block))
    assert isinstance(said, CompactProposal)
    return said


def holder(block: Block) -> Answer:
    """A peer that has the block."""
    by_name = {name_of(raw): raw for raw in block.transactions}

    async def answer(names: list[bytes]) -> Any:
        return [by_name[Hash(name)] for name in names]

    return answer


async def test_a_proposal_is_prevoted_without_asking_where_its_transactions_wait_here(
    court: Court, peers: Peers
) -> None:
    block = a_block(court)
    async with living(a_life(court, peers)) as life:
        for raw in block.transactions:
            life.mempool.add(raw)
        await court.tell(life, compact(court, block))
        assert court.said(VoteKind.PREVOTE) == [block.header.hash()]
    assert peers.asked == []


async def test_what_is_missing_is_asked_of_the_sender_and_votes_may_come_first(court: Court, peers: Peers) -> None:
    block = a_block(court)
    value = block.header.hash()
    sender = peer_id_of(court.proposer.public_key)
    peers.answers[sender] = holder(block)
    async with living(a_life(court, peers)) as life:
        for raw in block.transactions[:15]:
            life.mempool.add(raw)
        for kind in (VoteKind.PREVOTE, VoteKind.PRECOMMIT):
            await court.tell(life, *(court.vote(one, kind, value) for one in court.others))
        await court.tell(life, compact(court, block))
        await until(lambda: life.chain.head.hash == value)
        assert stored(life.chain, 1)[0] == block
        assert life.mempool.named(name_of(block.transactions[0])) is None
        given = await life.agreement.proposals.transactions(sender, [[name_of(raw) for raw in block.transactions]])
        assert given == list(block.transactions), "for those that are a little behind"
    assert peers.asked == [(sender, [name_of(raw) for raw in block.transactions[15:]])]


async def test_where_the_sender_is_silent_others_are_asked_and_nobody_is_blamed(
    court: Court, peers: Peers
) -> None:
    block = a_block(court)
    other = peer_id_of(court.others[1].public_key)
    court.wire.linked = [other]
    peers.answers[other] = holder(block)
    async with living(a_life(court, peers)) as life:
        await court.tell(life, compact(court, block))
        await until(lambda: court.said(VoteKind.PREVOTE) == [block.header.hash()])
        assert [peer for peer, _ in peers.asked] == [peer_id_of(court.proposer.public_key), other]
        assert life.blamed == []


async def test_a_proposer_that_does_not_give_what_it_names_is_a_silent_one(court: Court, peers: Peers) -> None:
    court.config = replace(PATIENT, propose_ms=50)
    async with living(a_life(court, peers)) as life:
        await court.tell(life, compact(court, a_block(court)))
        await until(lambda: court.said(VoteKind.PREVOTE) == [None])
        assert life.blamed == []
        assert life.agreement.proposals.rebuilder.counters.given_up == 1


async def test_answers_that_are_none_are_held_against_who_gave_them(court: Court, peers: Peers) -> None:
    block = a_block(court)
    sender, other = (peer_id_of(one.public_key) for one in (court.proposer, court.others[1]))
    court.wire.linked = [other]

    async def nonsense(_: list[bytes]) -> Any:
        return "transactions"

    async def others(_: list[bytes]) -> Any:
        return [b"something else"]

    peers.answers = {sender: nonsense, other: others}
    async with living(a_life(court, peers)) as life:
        await court.tell(life, compact(court, block))
        await until(lambda: len(life.blamed) == 2)
        assert life.blamed == [(sender, "proposal.answer"), (other, "proposal.answer")]


async def test_nothing_is_asked_for_what_is_not_signed_or_does_not_fit(court: Court, peers: Peers) -> None:
    good = compact(court, a_block(court))
    liar = court.others[1]
    async with living(a_life(court, peers)) as life:
        await court.tell(life, replace(good, signature=Signature(bytes(64))), sender=liar)
        await court.tell(life, replace(good, names=good.names[1:]), sender=liar)
        assert [code for _, code in life.blamed] == ["signature.bad", "block.data"]
    assert peers.asked == []


async def test_without_anybody_to_ask_a_node_goes_on(court: Court) -> None:
    async with living(court.life()) as life:
        await court.tell(life, compact(court, a_block(court)))
        assert life.agreement.proposals.rebuilder.counters.given_up == 1


async def test_a_node_that_restarts_while_it_asks_hears_of_the_proposal_again(court: Court, peers: Peers) -> None:
    block = a_block(court)
    said, sender = compact(court, block), peer_id_of(court.proposer.public_key)

    async def never(_: list[bytes]) -> Any:
        await trio.sleep_forever()

    peers.answers[sender] = never
    async with living(a_life(court, peers)) as life:
        await court.tell(life, said)
        assert len(peers.asked) == 1
    peers.answers[sender] = holder(block)
    async with living(a_life(court, peers)) as life:
        await court.tell(life, said)
        await until(lambda: court.said(VoteKind.PREVOTE) == [block.header.hash()])
    async with living(a_life(court, peers)) as life:
        await trio.testing.wait_all_tasks_blocked()
        driver = life.agreement._engine.driver
        assert driver is not None
        assert list(driver.blocks.values()) == [block], "the journal has all of it"
    assert court.wire.contradictions() == 0


async def test_what_we_propose_ourselves_travels_by_name_and_is_given_to_those_who_ask(tmp_path: Path) -> None:
    court = Court(tmp_path, PATIENT)
    court.us, court.proposer = court.proposer, court.us
    async with living(court.life()) as life:
        block = a_block(court)
        for raw in block.transactions:
            life.mempool.add(raw)
        await until(lambda: any(isinstance(one, CompactProposal) for one in court.wire.sent))
        (said,) = [one for one in court.wire.sent if isinstance(one, CompactProposal)]
        given = await life.agreement.proposals.transactions(peer_id_of(court.proposer.public_key), [[*said.names]])
        assert tuple(map(name_of, given)) == said.names


@pytest.mark.parametrize(
    "params", [None, [], [[], []], ["names"], [[1]], [[b"name"] * (limits.BLOCK_TRANSACTIONS + 1)]]
)
async def test_a_question_that_is_none_is_refused(court: Court, params: Any) -> None:
    life = court.life()
    with pytest.raises(Refused, match="wanted"):
        await life.agreement.proposals.transactions(peer_id_of(court.us.public_key), params)
    life.stop()
