"""What the engine says again, by a timer or after a crash."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import (
    PREVOTE,
    Host,
    commit_certificate,
    member,
    only,
    proposal,
    start_height,
    value,
    vote,
)
from tests.support.engines import (
    ME,
    OTHERS,
    P0,
    RED,
    R,
    a_host,
    decided_red,
    faults,
    fire,
    precommitted_red,
    sign,
    tell,
)

from fondaco.consensus.effects import (
    Broadcast,
    Commit,
    Effect,
    GetValue,
    Record,
    RequestSync,
    SetTimer,
    Sign,
    Timer,
    Validate,
    Validated,
    ValueReady,
    Wake,
)
from fondaco.consensus.journal_entries import HeightEntry
from fondaco.node.simulation import identities
from fondaco.protocol import codec
from fondaco.protocol.agreement import (
    ConsensusMessage,
    RoundCertificate,
    SignedProposal,
    SignedVote,
)
from fondaco.protocol.errors import Malformed
from fondaco.protocol.scalars import ChainId, Height, Millis, Round

# The rebroadcast timer


def _ticks(host: Host, effects: tuple[Effect, ...], count: int) -> list[ConsensusMessage]:
    said: list[ConsensusMessage] = []
    for _ in range(count):
        effects = fire(host, Timer.REBROADCAST, effects)
        said += [effect.message for effect in only(Broadcast, effects)]
    return said


def test_an_idle_validator_repeats_the_last_certificate_once_in_four_ticks() -> None:
    host = Host(member(ME))
    certificate = commit_certificate(R, *OTHERS)
    effects = host.do(start_height(2, previous_certificate=certificate))
    assert _ticks(host, effects, 8) == [certificate] * 2


def test_a_full_node_repeats_nothing() -> None:
    host = Host(None)
    assert _ticks(host, host.do(start_height()), 4) == []


def test_our_last_words_are_repeated_with_the_polka_and_the_proposal() -> None:
    host = Host(member(ME))
    effects = host.do(start_height())
    precommitted_red(host)
    said = _ticks(host, effects, 1)
    assert [type(message) for message in said] == [RoundCertificate, SignedProposal, SignedVote, SignedVote]


def test_the_certificate_of_the_round_is_repeated_and_a_proposal_of_the_last_round_is_not() -> None:
    host = Host(member(P0))
    effects = host.do(start_height())
    host.do(Wake())
    sign(host, host.do(ValueReady(height=Height(1), round=Round(0), block=RED)))
    others = [who for who in range(4) if who != P0]
    tell(host, *(vote(PREVOTE, who, None, round=1) for who in others[:2]))
    said = _ticks(host, effects, 1)
    assert [type(message) for message in said] == [RoundCertificate, SignedVote]


def test_a_proposal_of_long_ago_is_not_repeated_with_its_polka() -> None:
    host = Host(member(ME))
    effects = host.do(start_height())
    precommitted_red(host)
    tell(host, *(vote(PREVOTE, who, None, round=6) for who in OTHERS[:2]))
    said = _ticks(host, effects, 1)
    assert [type(message) for message in said] == [
        RoundCertificate,
        RoundCertificate,
        SignedVote,
        SignedVote,
    ]


def test_a_full_node_skips_rounds_in_silence() -> None:
    host = Host(None)
    host.do(start_height())
    effects = tell(host, *(vote(PREVOTE, who, None, round=6) for who in OTHERS[:2]))
    assert only(Broadcast, effects) == []
    assert host.engine.driver is not None
    assert host.engine.driver.state.round == 6


def test_a_decision_is_repeated_until_the_next_height_begins() -> None:
    host = Host(member(ME))
    effects = host.do(start_height())
    decided_red(host)
    assert _ticks(host, effects, 1) == [commit_certificate(R, ME, *OTHERS[:2])]


def test_a_node_that_others_have_left_behind_asks_again_for_sync() -> None:
    host = Host(member(ME))
    effects = host.do(start_height())
    tell(host, *(vote(PREVOTE, who, None, height=2) for who in OTHERS[:2]))
    assert only(RequestSync, fire(host, Timer.REBROADCAST, effects)) == [RequestSync(Height(1))]


# Crash and restart


def restarted(host: Host, journal: list[bytes] | None = None) -> tuple[Host, tuple[Effect, ...]]:
    again = Host(host.key, host.config)
    again.now = host.now + 5_000
    again.do(start_height())
    for entry in host.journal if journal is None else journal:
        again.engine.replay(entry)
    return again, again.engine.resume(Millis(again.now))


def test_replay_brings_back_the_state_and_says_the_last_words_again() -> None:
    host = a_host()
    precommitted_red(host)
    again, effects = restarted(host)
    assert host.engine.driver is not None
    assert again.engine.driver is not None
    assert again.engine.driver.state == host.engine.driver.state
    assert [type(effect.message) for effect in only(Broadcast, effects)] == [SignedVote, SignedVote]
    assert only(Sign, effects) == []


def test_every_prefix_of_the_journal_recovers_to_a_state_on_the_way() -> None:
    host = a_host()
    decided_red(host)
    for length in range(len(host.journal) + 1):
        again, effects = restarted(host, host.journal[:length])
        assert again.engine.driver is not None
        assert bool(only(Commit, effects)) is (length == len(host.journal))
        # The journal holds proposals' times of arrival: they are as timely as they were.
        assert all(one.statement.value == R for one in only(Sign, effects))


def test_what_was_asked_and_not_answered_is_asked_again() -> None:
    host = a_host(P0)
    host.do(Wake())
    again, effects = restarted(host)
    assert only(GetValue, effects) == [GetValue(Height(1), Round(0), Millis(again.now))]
    assert {one.timer for one in only(SetTimer, effects)} == {Timer.PROPOSE, Timer.REBROADCAST}
    voter = a_host()
    tell(voter, proposal(RED, who=P0))
    _, effects = restarted(voter)
    assert only(Validate, effects) == [Validate(RED)]
    voter.do(Validated(height=Height(1), value=R, valid=True))
    _, effects = restarted(voter)
    assert [one.statement.value for one in only(Sign, effects)] == [R]


def test_timers_that_fired_before_the_crash_do_not_run_again() -> None:
    host = a_host()
    fire(host, Timer.PROPOSE, host.do(Wake()))
    _, effects = restarted(host)
    assert Timer.PROPOSE not in {one.timer for one in only(SetTimer, effects)}


def test_a_recovered_node_that_knows_its_height_decided_does_not_sign() -> None:
    host = a_host()
    tell(host, proposal(RED, who=P0))
    host.do(Validated(height=Height(1), value=R, valid=False))
    tell(host, commit_certificate(value("x"), *OTHERS))
    again, effects = restarted(host)
    assert only(Sign, effects) == []
    assert again.engine.final == 1


def test_entries_of_another_height_are_passed_over() -> None:
    host = a_host()
    host.do(Wake())
    other = codec.encode(HeightEntry(height=Height(7)))
    again, _ = restarted(host, [other, *host.journal[1:]])
    assert again.engine.driver is not None
    assert not again.engine.driver.started


def test_what_is_no_entry_is_malformed() -> None:
    host = a_host()
    with pytest.raises(Malformed):
        host.engine.replay(b"\x00")


def test_signatures_are_bound_to_the_chain() -> None:
    host = a_host()
    one = vote(PREVOTE, P0, R)
    signature = identities.sign(ChainId("another"), one.validator, one.vote)
    assert faults(tell(host, replace(one, signature=signature))) == ["signature.bad"]


def test_a_prevote_that_rests_on_an_earlier_polka_is_taken() -> None:
    host = a_host()
    assert only(Record, tell(host, vote(PREVOTE, P0, R, round=1, valid_round=0)))
