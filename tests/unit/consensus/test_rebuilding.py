"""Compact proposals: what is checked before anything is fetched, who is asked, who is blamed, what is bounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from tests.support.agreement import (
    START,
    Host,
    block,
    member,
    proposal,
    proposer_of,
    start_height,
)

from fondaco.consensus import rebuilding
from fondaco.consensus.blocks import check_named, name_of
from fondaco.consensus.effects import Punish, Received
from fondaco.consensus.rebuilding import ASKS, HELD, JOBS, STARTS, Announced, Answered, Ask, Rebuilder
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import (
    CompactProposal,
    SignedProposal,
    WireMessage,
)
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import Hash, Height, PublicKey, Signature

PAY, LEND, OWE = b"pay", b"lend", b"owe"
PEERS = [PublicKey(bytes([number]) * 32) for number in range(1, 10)]
SENDER, *OTHERS = PEERS


def signed(*transactions: bytes, round: int = 0, time: int = START) -> SignedProposal:
    who = proposer_of(round)
    return proposal(block(*transactions, proposer=who, time=time), who=who, round=round)


def compact(whole: SignedProposal) -> CompactProposal:
    said = Rebuilder(lambda _: True, lambda _: None, list, whole_bytes=0).shorten(whole)
    assert isinstance(said, CompactProposal)
    return said


class Node:
    """A rebuilder over a pool; everything is expected unless said otherwise."""

    def __init__(self, *pool: bytes, others: Iterable[PublicKey] = ()) -> None:
        self.pool = {name_of(transaction): transaction for transaction in pool}
        self.expected = True
        self.others = list(others)
        self.rebuilder = Rebuilder(lambda _: self.expected, self.pool.get, lambda: self.others, whole_bytes=0)

    def told(self, whole: SignedProposal, sender: PublicKey = SENDER) -> list[rebuilding.Effect]:
        return self.rebuilder.step(Announced(compact(whole), sender))

    def answered(self, ask: rebuilding.Effect, *transactions: bytes) -> list[rebuilding.Effect]:
        assert isinstance(ask, Ask)
        return self.rebuilder.step(Answered(ask, transactions))


def asked(effects: list[rebuilding.Effect]) -> list[tuple[PublicKey, tuple[Hash, ...]]]:
    return [(effect.peer, effect.names) for effect in effects if isinstance(effect, Ask)]


# Shortly said


def test_a_compact_proposal_survives_the_wire_and_says_all_but_the_transactions() -> None:
    whole = signed(PAY * 500, LEND * 500)
    said = compact(whole)
    assert codec.decode_union(codec.encode(said), WireMessage) == said
    assert len(codec.encode(said)) < len(codec.encode(whole)) - 3_000
    assert Node(PAY * 500, LEND * 500).told(whole) == [Received(whole, SENDER)]


def test_a_small_block_travels_whole() -> None:
    rebuilder = Rebuilder(lambda _: True, lambda _: None, list)
    assert rebuilder.shorten(signed(PAY)) == signed(PAY)
    assert isinstance(rebuilder.shorten(signed(PAY * 5_000)), CompactProposal)


def test_names_are_computed_once() -> None:
    node, whole = Node(), signed(PAY)
    first, again = (node.rebuilder.shorten(whole) for _ in range(2))
    assert isinstance(first, CompactProposal)
    assert isinstance(again, CompactProposal)
    assert first.names is again.names


# Made whole


def test_what_waits_here_is_not_asked_for() -> None:
    whole = signed(PAY, LEND, OWE)
    node = Node(PAY, OWE)
    (ask,) = node.told(whole)
    assert asked([ask]) == [(SENDER, (name_of(LEND),))]
    assert node.answered(ask, LEND) == [Received(whole, SENDER)]
    counters = node.rebuilder.counters
    assert (counters.compact, counters.named, counters.missing, counters.asks) == (1, 3, 1, 1)


def test_a_block_may_name_a_transaction_twice() -> None:
    """The ledger refuses it; that it does is to be found out by the ledger."""
    whole = signed(PAY, PAY, b"")
    node = Node()
    (ask,) = node.told(whole)
    assert asked([ask]) == [(SENDER, (name_of(PAY), name_of(b"")))]
    assert node.answered(ask, b"", PAY) == [Received(whole, SENDER)]


def test_what_came_by_gossip_meanwhile_is_not_asked_for_again() -> None:
    node = Node(others=OTHERS)
    (ask,) = node.told(signed(PAY, LEND))
    node.pool[name_of(LEND)] = LEND
    assert asked(node.answered(ask)) == [(OTHERS[0], (name_of(PAY),))]


def test_of_who_gives_a_part_the_rest_is_asked_of_others() -> None:
    whole = signed(PAY, LEND, OWE)
    node = Node(others=[SENDER, *OTHERS])
    (first,) = node.told(whole)
    (second,) = node.answered(first, PAY)
    assert asked([second]) == [(OTHERS[0], (name_of(LEND), name_of(OWE)))]
    (third,) = node.answered(second, OWE)
    assert asked([third]) == [(OTHERS[1], (name_of(LEND),))]
    assert node.answered(third, LEND) == [Received(whole, SENDER)]


def test_a_proposal_that_comes_from_several_peers_is_fetched_once_and_asked_of_each() -> None:
    node = Node(others=[OTHERS[5]])
    (ask,) = node.told(signed(PAY))
    for peer in (SENDER, OTHERS[0], OTHERS[0], OTHERS[1]):
        assert node.told(signed(PAY), peer) == []
    (second,) = node.answered(ask)
    (third,) = node.answered(second)
    (fourth,) = node.answered(third)
    assert [peer for one in (second, third, fourth) for peer, _ in asked([one])] == [*OTHERS[:2], OTHERS[5]]


def test_nobody_is_asked_twice_and_where_nobody_gives_it_nothing_comes_of_it() -> None:
    node = Node(others=[SENDER, *OTHERS])
    effects = node.told(signed(PAY))
    peers = list[PublicKey]()
    while effects:
        (ask,) = effects
        peers += [peer for peer, _ in asked(effects)]
        effects = node.answered(ask)
    assert len(peers) == len(set(peers)) == ASKS
    assert node.rebuilder.counters.given_up == 1
    assert len(node.told(signed(PAY))) == 1, "said again it is tried again"


def test_two_blocks_of_one_round_are_both_made_whole_for_their_proposer_to_be_found_out() -> None:
    one, other = signed(PAY), signed(LEND)
    node = Node()
    effects = [*node.told(one), *node.told(other)]
    wholes = [node.answered(ask, raw) for ask, raw in zip(effects, (PAY, LEND), strict=True)]
    assert wholes == [[Received(one, SENDER)], [Received(other, SENDER)]]


def test_a_value_proposed_in_two_rounds_is_fetched_once() -> None:
    content = block(PAY, proposer=proposer_of(0))
    first = proposal(content, who=proposer_of(0))
    again = proposal(content, who=proposer_of(1), round=1, valid_round=0)
    third = proposal(content, who=proposer_of(2), round=2, valid_round=0)
    node = Node()
    (ask,) = node.told(first)
    assert node.told(again, OTHERS[0]) == []
    assert node.answered(ask, PAY) == [Received(first, SENDER), Received(again, OTHERS[0])]
    assert node.told(third, OTHERS[1]) == [Received(third, OTHERS[1])]


def test_the_proposals_that_wait_for_one_value_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "STATEMENTS", 1)
    content = block(PAY, proposer=proposer_of(0))
    first = proposal(content, who=proposer_of(0))
    node = Node()
    (ask,) = node.told(first)
    assert node.told(proposal(content, who=proposer_of(1), round=1, valid_round=0)) == []
    assert node.answered(ask, PAY) == [Received(first, SENDER)]


def test_the_senders_that_may_be_asked_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "ASKS", 2)
    node = Node()
    (ask,) = node.told(signed(PAY))
    for peer in OTHERS[:4]:
        node.told(signed(PAY), peer)
    (second,) = node.answered(ask)
    assert node.answered(second) == []


# What is not fetched


def test_what_the_engine_does_not_expect_costs_nothing() -> None:
    node = Node()
    node.expected = False
    assert node.told(signed(PAY)) == []


def test_what_the_engine_holds_against_the_sender_is_told() -> None:
    fault = PeerFault("signature.bad", "no")

    def expects(_: CompactProposal) -> bool:
        raise fault

    rebuilder = Rebuilder(expects, lambda _: None, list)
    assert rebuilder.step(Announced(compact(signed(PAY)), SENDER)) == [Punish(SENDER, fault)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"names": (name_of(PAY),)}, "block.data"),
        ({"names": (name_of(LEND), name_of(PAY))}, "block.data"),
        ({"names": (name_of(PAY),) * (limits.BLOCK_TRANSACTIONS + 1)}, "block.size"),
        ({"evidence": (b"somebody else did it",)}, "block.evidence"),
        ({"evidence": (bytes(limits.BLOCK_BYTES + 1),)}, "block.size"),
        ({"header": signed().block.header}, "block.value"),
    ],
)
def test_names_that_do_not_fit_the_header_are_held_against_their_sender(
    change: dict[str, object], code: str
) -> None:
    node, bad = Node(), replace(compact(signed(PAY, LEND)), **change)  # type: ignore[arg-type]
    for _ in range(2):
        (effect,) = node.rebuilder.step(Announced(bad, SENDER))
        assert isinstance(effect, Punish)
        assert (effect.peer, effect.fault.code) == (SENDER, code)
        node.told(signed(PAY, LEND), OTHERS[0])  # another's good one in the making changes nothing


def test_a_header_of_another_height_is_held_against_its_sender() -> None:
    good = compact(signed(PAY))
    with pytest.raises(PeerFault, match="height"):
        check_named(replace(good, proposal=replace(good.proposal, height=Height(2))))


def test_a_transaction_that_was_not_asked_for_is_held_against_who_gave_it() -> None:
    node = Node(others=[OTHERS[0]])
    (ask,) = node.told(signed(PAY, LEND))
    punish, again = node.answered(ask, PAY, OWE)
    assert isinstance(punish, Punish)
    assert (punish.peer, punish.fault.code) == (SENDER, "proposal.answer")
    assert asked([again]) == [(OTHERS[0], (name_of(PAY), name_of(LEND)))]
    punish, *rest = node.answered(again, PAY, PAY)
    assert isinstance(punish, Punish)
    assert punish.peer == OTHERS[0]
    assert rest == []


def test_a_block_that_turns_out_too_large_is_held_against_who_sent_it() -> None:
    half = bytes(limits.BLOCK_BYTES // 2)
    node = Node(half, PAY)
    (ask,) = node.told(signed(half, half + b"1", b"2"))
    effects = node.answered(ask, half + b"1")
    assert [effect.fault.code for effect in effects if isinstance(effect, Punish)] == ["block.size"]
    assert node.answered(ask, b"2") == [], "it is forgotten"


def test_an_answer_that_comes_too_late_is_let_go() -> None:
    node = Node(others=OTHERS)
    (ask,) = node.told(signed(PAY))
    (second,) = node.answered(ask)
    assert node.answered(ask, PAY) == []
    node.rebuilder.forget_below(Height(2))
    assert node.answered(second, PAY) == []


# Bounds


def test_of_one_round_two_values_are_begun_and_each_only_so_often() -> None:
    node = Node()
    for _ in range(STARTS):
        for raw in (PAY, LEND):
            (ask,) = node.told(signed(raw))
            assert node.answered(ask) == []
    assert node.told(signed(OWE)) == []
    assert node.told(signed(PAY)) == []
    assert len(node.told(signed(PAY, round=1))) == 1, "the next round is another matter"


def test_blocks_in_the_making_are_bounded_and_later_rounds_go_first() -> None:
    node = Node()
    asks = [node.told(signed(PAY, round=round, time=START + round))[0] for round in range(1, JOBS + 1)]
    assert node.told(signed(PAY, round=0)) == []
    assert len(node.told(signed(PAY, round=JOBS + 1, time=START - 1))) == 1
    assert node.answered(asks[0], PAY) == []
    assert len(node.answered(asks[1], PAY)) == 1


def test_the_rounds_it_remembers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "ROUNDS_REMEMBERED", 2)
    node = Node(PAY)
    for round in range(4):
        assert len(node.told(signed(PAY, round=round, time=START + round))) == 1
    assert len(node.rebuilder._started) == 2


def test_whole_blocks_are_kept_for_others_until_their_height_is_well_over() -> None:
    node = Node(PAY)
    node.told(signed(PAY))
    del node.pool[name_of(PAY)]
    node.rebuilder.shorten(signed(LEND))
    wanted = (name_of(PAY), name_of(LEND), name_of(OWE))
    assert node.rebuilder.give(wanted) == [PAY, LEND]
    node.rebuilder.forget_below(Height(2))
    assert node.rebuilder.give(wanted) == [PAY, LEND]
    node.rebuilder.forget_below(Height(3))
    assert node.rebuilder.give(wanted) == []


def test_the_blocks_that_are_kept_are_bounded() -> None:
    node = Node()
    for number in range(HELD + 1):
        node.rebuilder.shorten(signed(b"%d" % number))
    assert node.rebuilder.give([name_of(b"%d" % number) for number in range(HELD + 1)]) == [
        b"%d" % number for number in range(1, HELD + 1)
    ]


def test_an_answer_holds_no_more_than_a_block() -> None:
    large = [bytes([number]) * (limits.BLOCK_BYTES // 2) for number in range(3)]
    assert Node(*large).rebuilder.give(map(name_of, large)) == large[:2]
    huge = bytes(2 * limits.BLOCK_BYTES)
    assert Node(huge).rebuilder.give([name_of(huge)]) == [huge], "one at least"


# What the engine expects


def an_engine() -> Host:
    host = Host(member(3))
    host.do(start_height())
    return host


def test_before_the_first_height_nothing_is_expected() -> None:
    assert not Host(member(0)).engine.expects(compact(signed(PAY)))


def test_a_proposal_is_expected_once_and_judged_by_its_signature_alone() -> None:
    host = an_engine()
    whole = signed(PAY)
    said = compact(whole)
    assert host.engine.expects(said)
    with pytest.raises(PeerFault, match="signed"):
        host.engine.expects(replace(said, signature=Signature(bytes(64))))
    with pytest.raises(PeerFault, match="turn"):
        host.engine.expects(compact(proposal(whole.block, who=proposer_of(1))))
    assert host.journal == [], "to ask changes nothing"
    host.do(Received(whole, SENDER))
    assert not host.engine.expects(said)


def at(height: int, whole: SignedProposal, who: int) -> CompactProposal:
    content = replace(whole.block, header=replace(whole.block.header, height=Height(height)))
    return compact(proposal(content, who=who))


def test_of_the_next_height_the_expected_proposers_are_heard_and_of_others_nothing() -> None:
    host = an_engine()
    next_one = proposer_of(1)  # with equal powers, the proposer of round 0 one height up
    ahead = at(2, signed(PAY), next_one)
    assert host.engine.expects(ahead)
    with pytest.raises(PeerFault, match="signed"):
        host.engine.expects(replace(ahead, signature=Signature(bytes(64))))
    assert not host.engine.expects(at(2, signed(PAY), proposer_of(0)))
    assert not host.engine.expects(at(3, signed(PAY), next_one))
    assert not host.engine.expects(at(0, signed(PAY), next_one))
