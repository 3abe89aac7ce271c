"""The engine through a height: what is asked for when, in which order, and what time does."""

from __future__ import annotations

from tests.support.agreement import (
    PRECOMMIT,
    PREVOTE,
    START,
    Host,
    commit_certificate,
    member,
    only,
    proposal,
    start_height,
    vote,
)
from tests.support.engines import (
    ME,
    OTHERS,
    P0,
    P1,
    RED,
    STRANGER,
    R,
    a_host,
    decided_red,
    fire,
    prevoted_red,
    sign,
    tell,
)

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import (
    Broadcast,
    CancelTimer,
    Commit,
    GetValue,
    Record,
    SetTimer,
    Sign,
    Timer,
    TimerFired,
    Validate,
    Validated,
    ValueReady,
    Wake,
)
from fondaco.consensus.journal_entries import HeightEntry, MessageEntry, decode_entry
from fondaco.protocol.agreement import (
    Proposal,
    RoundCertificate,
    SignedProposal,
    SignedVote,
)
from fondaco.protocol.scalars import Height, Millis, Round


def test_before_the_first_height_nothing_is_listened_to() -> None:
    host = Host(member(ME))
    assert host.engine.height is None
    assert host.engine.driver is None
    assert host.do(Wake()) == ()


def test_an_idle_height_does_not_begin() -> None:
    host = Host(member(P0))
    effects = host.do(start_height())
    assert [type(effect) for effect in effects] == [SetTimer]
    assert only(SetTimer, effects)[0].timer is Timer.REBROADCAST


def test_wake_makes_the_proposer_ask_for_a_value_later_than_the_block_below() -> None:
    host = Host(member(P0))
    host.do(start_height(previous_time=Millis(START + 50)))
    effects = host.do(Wake())
    assert only(GetValue, effects) == [GetValue(Height(1), Round(0), Millis(START + 51))]
    assert [one.timer for one in only(SetTimer, effects)] == [Timer.PROPOSE]
    assert host.do(Wake()) == ()


def test_the_proposer_signs_proposes_and_prevotes() -> None:
    host = a_host(P0)
    host.do(Wake())
    effects = sign(host, host.do(ValueReady(height=Height(1), round=Round(0), block=RED)))
    said = [effect.message for effect in only(Broadcast, effects)]
    assert [type(message) for message in said] == [SignedProposal, SignedVote]
    assert only(Validate, effects) == []


def test_a_value_nobody_waits_for_is_dropped() -> None:
    host = a_host(P0)
    assert host.do(ValueReady(height=Height(1), round=Round(0), block=RED)) == ()
    host.do(Wake())
    assert host.do(ValueReady(height=Height(1), round=Round(1), block=RED)) == ()


def test_a_height_from_proposal_to_commit() -> None:
    host = a_host()
    effects = tell(host, proposal(RED, who=P0))
    assert only(Validate, effects) == [Validate(RED)]
    effects = decided_red(host)
    [commit] = only(Commit, effects)
    assert commit.block == RED
    assert commit.certificate == commit_certificate(R, ME, *OTHERS[:2])
    assert only(Broadcast, effects)[-1].message == commit.certificate
    assert host.engine.final == 1


def test_every_record_precedes_what_follows_from_it() -> None:
    host = a_host()
    effects = prevoted_red(host)
    kinds = [type(effect) for effect in effects]
    assert kinds == [Record, Sign, Record, Broadcast]
    entry = decode_entry(only(Record, effects)[-1].entry)
    assert isinstance(entry, MessageEntry)
    assert entry.own


def test_the_journal_of_a_height_says_first_which_it_is() -> None:
    host = a_host()
    host.do(Wake())
    assert decode_entry(host.journal[0]) == HeightEntry(height=Height(1))


def test_a_message_of_this_height_begins_it() -> None:
    host = a_host()
    effects = tell(host, vote(PREVOTE, P0, None))
    assert Timer.PROPOSE in [one.timer for one in only(SetTimer, effects)]


def test_the_next_block_waits_for_the_minimum_interval() -> None:
    host = Host(member(P0), EngineConfig(min_block_interval_ms=5_000))
    host.do(start_height(previous_time=Millis(START - 2_000)))
    effects = host.do(Wake())
    assert [(one.timer, one.delay_ms) for one in only(SetTimer, effects)] == [(Timer.START, 3_000)]
    assert host.do(Wake()) == ()
    assert only(GetValue, fire(host, Timer.START, effects))


def test_a_message_ends_the_wait_for_the_interval() -> None:
    host = Host(member(ME), EngineConfig(min_block_interval_ms=5_000))
    host.do(start_height())
    host.do(Wake())
    effects = tell(host, vote(PREVOTE, P0, None))
    assert CancelTimer(Timer.START) in effects


def test_timeouts_lead_from_nil_to_the_next_round_with_its_certificate() -> None:
    host = a_host()
    effects = host.do(Wake())
    effects = sign(host, fire(host, Timer.PROPOSE, effects))
    assert [one.statement.value for one in only(Sign, effects)] == [None]
    effects = tell(host, vote(PREVOTE, OTHERS[0], None), vote(PREVOTE, OTHERS[1], R))
    effects = sign(host, fire(host, Timer.PREVOTE, effects))
    effects = tell(host, vote(PRECOMMIT, OTHERS[0], None), vote(PRECOMMIT, OTHERS[1], None))
    effects = fire(host, Timer.PRECOMMIT, effects)
    [certificate] = [effect.message for effect in only(Broadcast, effects)]
    assert isinstance(certificate, RoundCertificate)
    assert len(certificate.votes) == 3


def test_a_stale_firing_is_dropped() -> None:
    host = a_host()
    [setting] = only(SetTimer, host.do(Wake()))
    assert host.do(TimerFired(Timer.PROPOSE, setting.generation - 1)) == ()
    assert host.do(TimerFired(Timer.PRECOMMIT, setting.generation)) == ()


def test_the_valid_value_is_proposed_again_with_its_polka() -> None:
    host = a_host(P1)
    tell(host, proposal(RED, who=P0))
    sign(host, host.do(Validated(height=Height(1), value=R, valid=True)))
    others = [who for who in range(4) if who != P1]
    sign(host, tell(host, *(vote(PREVOTE, who, R) for who in others)))
    effects = tell(host, *(vote(PRECOMMIT, who, None) for who in others))
    effects = fire(host, Timer.PRECOMMIT, effects)
    said = [effect.message for effect in only(Broadcast, effects)]
    assert [type(message) for message in said] == [RoundCertificate, RoundCertificate, SignedProposal]
    [request] = only(Sign, effects)
    assert request.statement == Proposal(height=Height(1), round=Round(1), value=R, valid_round=Round(0))
    assert request.block == RED


def test_a_full_node_follows_and_never_signs() -> None:
    for who in (None, ME):
        host = Host(STRANGER if who is None else None)
        host.do(start_height())
        effects = tell(host, proposal(RED, who=P0))
        effects += host.do(Validated(height=Height(1), value=R, valid=True))
        effects += tell(host, *(vote(PREVOTE, one, R) for one in range(3)))
        effects += tell(host, *(vote(PRECOMMIT, one, R) for one in range(3)))
        assert only(Sign, effects) == []
        assert len(only(Commit, effects)) == 1
