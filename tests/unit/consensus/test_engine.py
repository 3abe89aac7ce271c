"""The engine and its host: what is asked for when, what is let in, and what a restart brings back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import (
    CHAIN,
    FOUR,
    PRECOMMIT,
    PREVOTE,
    START,
    Host,
    block,
    commit_certificate,
    member,
    only,
    proposal,
    proposer_of,
    round_certificate,
    start_height,
    value,
    vote,
)

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import (
    Broadcast,
    CancelTimer,
    Commit,
    Effect,
    GetValue,
    Punish,
    Received,
    Record,
    ReportEvidence,
    RequestSync,
    Send,
    SetTimer,
    Sign,
    Signed,
    Timer,
    TimerFired,
    Validate,
    Validated,
    ValueReady,
    Wake,
)
from fondaco.consensus.journal_entries import HeightEntry, MessageEntry, decode_entry
from fondaco.node.simulation import identities
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    ConsensusMessage,
    Proposal,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    Vote,
)
from fondaco.protocol.errors import Malformed
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.scalars import ChainId, Height, Millis, PublicKey, Round, Signature

P0, P1 = proposer_of(0), proposer_of(1)
ME = next(who for who in range(4) if who not in (P0, P1))
OTHERS = [who for who in range(4) if who != ME]
RED = block(b"red", proposer=P0)
R = RED.header.hash()
PEER = member(P0)
STRANGER = PublicKey(bytes(32))
BAD = Signature(bytes(64))


def a_host(who: int | None = ME, config: EngineConfig | None = None) -> Host:
    host = Host(None if who is None else member(who), config or EngineConfig())
    host.do(start_height())
    return host


def tell(host: Host, *messages: ConsensusMessage, sender: PublicKey | None = PEER) -> tuple[Effect, ...]:
    return tuple(effect for message in messages for effect in host.do(Received(message, sender)))


def sign(host: Host, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Answer every `Sign` in `effects`, and those that follow."""
    key, done = host.key, effects
    assert key is not None
    for request in only(Sign, effects):
        signature = identities.sign(CHAIN, key, request.statement)
        if isinstance(request.statement, Vote):
            message: SignedVote | SignedProposal = SignedVote(
                vote=request.statement, validator=key, signature=signature
            )
        else:
            assert request.block is not None
            message = SignedProposal(
                proposal=request.statement, block=request.block, proposer=key, signature=signature
            )
        done += sign(host, host.do(Signed(message)))
    return done


def prevoted_red(host: Host) -> tuple[Effect, ...]:
    tell(host, proposal(RED, who=P0))
    return sign(host, host.do(Validated(height=Height(1), value=R, valid=True)))


def precommitted_red(host: Host) -> tuple[Effect, ...]:
    prevoted_red(host)
    return sign(host, tell(host, *(vote(PREVOTE, who, R) for who in OTHERS[:2])))


def decided_red(host: Host) -> tuple[Effect, ...]:
    precommitted_red(host)
    return tell(host, *(vote(PRECOMMIT, who, R) for who in OTHERS[:2]))


def fire(host: Host, timer: Timer, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    [setting] = [one for one in only(SetTimer, effects) if one.timer is timer]
    return host.do(TimerFired(timer, setting.generation), after_ms=setting.delay_ms)


def faults(effects: tuple[Effect, ...]) -> list[str]:
    return [punish.fault.code for punish in only(Punish, effects)]


# A height


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


# What is let in


def _unsigned(message: SignedVote) -> SignedVote:
    return replace(message, signature=BAD)


def _forged(certificate: CommitCertificate) -> CommitCertificate:
    return replace(certificate, signatures=(BAD,) * 4)


def _proposal_of(content: Block, **changes: object) -> SignedProposal:
    return replace(proposal(content, who=P0), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (_unsigned(vote(PREVOTE, P0, R)), "signature.bad"),
        (replace(vote(PREVOTE, P0, R), validator=STRANGER), "vote.stranger"),
        (vote(PRECOMMIT, P0, R, round=1, valid_round=0), "vote.valid_round"),
        (vote(PREVOTE, P0, None, round=1, valid_round=0), "vote.valid_round"),
        (vote(PREVOTE, P0, R, round=1, valid_round=1), "vote.valid_round"),
        (_proposal_of(RED, signature=BAD), "signature.bad"),
        (proposal(RED, who=P1), "proposal.turn"),
        (proposal(RED, who=P1, round=1), "proposal.proposer"),
        (proposal(RED, who=P1, round=1, valid_round=1), "proposal.valid_round"),
        (_proposal_of(RED, block=replace(RED, transactions=(b"swapped",))), "block.data"),
        (
            _proposal_of(RED, block=replace(RED, header=replace(RED.header, height=Height(2)))),
            "proposal.height",
        ),
        (_forged(commit_certificate(R, 0)), "signature.bad"),
        (commit_certificate(R, 0, 1), "certificate.weak"),
        (round_certificate(), "certificate.places"),
        (round_certificate(vote(PREVOTE, P0, R)), "certificate.weak"),
        (round_certificate(vote(PREVOTE, P0, R, round=1, valid_round=1)), "vote.valid_round"),
        (_unsigned(vote(PREVOTE, P0, R, height=2)), "signature.bad"),
        (
            replace(proposal(replace(RED, header=replace(RED.header, height=Height(2))), who=P1), signature=BAD),
            "signature.bad",
        ),
    ],
)
def test_what_no_honest_peer_sends_is_punished_and_changes_nothing(message: ConsensusMessage, code: str) -> None:
    host = a_host()
    assert faults(tell(host, message)) == [code]
    assert host.journal == []
    assert tell(host, message, sender=None) == ()


def test_a_vote_is_taken_once() -> None:
    host = a_host()
    tell(host, vote(PREVOTE, P0, None))
    assert tell(host, vote(PREVOTE, P0, None)) == ()
    tell(host, vote(PREVOTE, P1, None))
    assert tell(host, round_certificate(vote(PREVOTE, P0, None), vote(PREVOTE, P1, None))) == ()


def test_a_nil_quorum_is_taken_once() -> None:
    host = a_host()
    certificate = round_certificate(*(vote(PRECOMMIT, who, None) for who in OTHERS))
    assert tell(host, certificate)
    assert tell(host, certificate) == ()


def test_a_proposal_is_taken_once_and_judged_once() -> None:
    host = a_host()
    tell(host, proposal(RED, who=P0))
    assert tell(host, proposal(RED, who=P0)) == ()
    host.do(Validated(height=Height(1), value=R, valid=True))
    assert host.do(Validated(height=Height(1), value=R, valid=True)) == ()
    tell(host, vote(PREVOTE, OTHERS[0], None, round=1), vote(PREVOTE, OTHERS[1], None, round=1))
    effects = tell(host, proposal(RED, who=P1, round=1, valid_round=0))
    assert only(Validate, effects) == []


def test_a_block_that_does_not_follow_is_not_shown_to_the_ledger() -> None:
    host = a_host()
    early = block(b"early", proposer=P0, time=START - 1_000)
    effects = tell(host, proposal(early, who=P0))
    assert only(Validate, effects) == []
    assert [one.statement.value for one in only(Sign, effects)] == [None]


def test_a_proposal_from_another_time_gets_nil() -> None:
    host = a_host()
    host.now += 20_000
    tell(host, proposal(RED, who=P0))
    effects = host.do(Validated(height=Height(1), value=R, valid=True))
    assert [one.statement.value for one in only(Sign, effects)] == [None]


def test_two_votes_of_one_validator_are_reported() -> None:
    host = a_host()
    first, second = vote(PREVOTE, P0, R), vote(PREVOTE, P0, None)
    effects = tell(host, first, second)
    assert only(ReportEvidence, effects) == [ReportEvidence(duplicate_vote(first, second))]


def test_a_round_certificate_is_taken_whole_and_known_ones_are_not_taken_again() -> None:
    host = a_host()
    prevoted_red(host)
    tell(host, vote(PREVOTE, OTHERS[0], None))
    polka = round_certificate(*(vote(PREVOTE, who, R) for who in OTHERS))
    effects = tell(host, polka)
    assert only(ReportEvidence, effects)
    assert [one.statement.value for one in only(Sign, effects)] == [R]
    assert tell(host, polka) == ()


def test_an_answer_nobody_asked_for_is_dropped() -> None:
    host = a_host()
    assert host.do(Signed(vote(PREVOTE, ME, R))) == ()
    assert host.do(Signed(proposal(RED, who=P0))) == ()


# Being ahead and behind


def test_a_commit_certificate_decides_where_the_block_is_held() -> None:
    host = a_host()
    prevoted_red(host)
    certificate = commit_certificate(R, *OTHERS, round=3)
    effects = tell(host, certificate)
    assert only(Commit, effects) == [Commit(RED, certificate)]


def test_a_commit_certificate_without_the_block_asks_for_it_and_stops_us_signing() -> None:
    host = a_host()
    woken = host.do(Wake())
    assert only(RequestSync, tell(host, commit_certificate(R, *OTHERS))) == [RequestSync(Height(1))]
    assert tell(host, commit_certificate(R, *OTHERS)) == ()
    assert only(Sign, fire(host, Timer.PROPOSE, woken)) == []


def test_a_commit_certificate_stops_us_signing_though_its_precommits_came_before_it() -> None:
    host = a_host()
    woken = host.do(Wake())
    tell(host, *(vote(PRECOMMIT, who, R) for who in OTHERS))
    assert only(RequestSync, tell(host, commit_certificate(R, *OTHERS))) == [RequestSync(Height(1))]
    assert only(Sign, fire(host, Timer.PROPOSE, woken)) == []


def test_a_certificate_from_ahead_asks_for_sync_and_stops_us_signing_until_there() -> None:
    host = a_host()
    effects = tell(host, commit_certificate(value("x"), *OTHERS, height=3))
    assert only(RequestSync, effects) == [RequestSync(Height(3))]
    assert host.engine.final == 3
    assert tell(host, commit_certificate(value("x"), *OTHERS, height=2)) == ()
    for height in (2, 3, 4):
        host.do(start_height(height, previous_certificate=commit_certificate(R, *OTHERS, height=height - 1)))
        effects = fire(host, Timer.PROPOSE, host.do(Wake()))
        assert bool(only(Sign, effects)) is (height == 4)


def test_a_certificate_that_our_set_did_not_sign_is_no_hint_and_nobodys_fault() -> None:
    host = a_host()
    assert tell(host, _forged(commit_certificate(R, 0, height=3))) == ()


def test_votes_from_one_step_ahead_are_kept_for_then() -> None:
    host = a_host()
    tell(host, *(vote(PREVOTE, who, None, height=2) for who in OTHERS))
    tell(host, vote(PREVOTE, OTHERS[0], None, height=2), vote(PREVOTE, OTHERS[0], None, height=3))
    tell(host, vote(PREVOTE, OTHERS[0], None, height=2, round=2))
    tell(host, round_certificate(*(vote(PREVOTE, who, None, height=2) for who in OTHERS)))
    decided_red(host)
    effects = host.do(start_height(2, previous_certificate=commit_certificate(R, *OTHERS)))
    assert host.engine.driver is not None
    assert host.engine.driver.keeper.has_polka(Round(0), None)
    assert Timer.PROPOSE in [one.timer for one in only(SetTimer, effects)]


def test_a_proposal_from_one_step_ahead_keeps_its_time_of_arrival() -> None:
    host = a_host()
    following = FOUR.advance(1)
    who = FOUR.index[following.proposer(Round(0))]
    ahead = replace(RED, header=replace(RED.header, height=Height(2), proposer=member(who)))
    tell(host, proposal(ahead, who=who), proposal(ahead, who=who))
    arrived = host.now
    host.now += 60_000
    host.do(start_height(2, of=following))
    entry = decode_entry(host.journal[-1])
    assert isinstance(entry, MessageEntry)
    assert entry.time == arrived


def test_what_comes_between_a_commit_and_the_next_height_is_kept_if_it_is_ahead() -> None:
    host = a_host()
    decided_red(host)
    assert tell(host, vote(PREVOTE, OTHERS[2], R)) == ()
    assert host.do(Wake()) == ()
    assert faults(tell(host, round_certificate())) == ["certificate.places"]
    tell(host, vote(PREVOTE, OTHERS[0], None, height=2))
    host.do(start_height(2, previous_certificate=commit_certificate(R, *OTHERS)))
    assert host.engine.driver is not None
    assert host.engine.driver.started


def test_a_peer_still_voting_below_is_sent_what_ends_that() -> None:
    host = a_host()
    certificate = commit_certificate(R, *OTHERS)
    host.do(start_height(2, previous_certificate=certificate))
    late = vote(PREVOTE, P0, None)
    assert tell(host, late) == (Send(PEER, certificate),)
    assert tell(host, late) == ()
    assert tell(host, late, sender=None) == ()
    host.now += 1_000
    assert tell(host, late) == (Send(PEER, certificate),)
    assert tell(host, certificate) == ()
    host.do(start_height(3))
    assert tell(host, vote(PREVOTE, P0, None, height=2)) == ()


def test_only_so_many_peers_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COMMIT_REPLIES", 1)
    host = a_host()
    host.do(start_height(2, previous_certificate=commit_certificate(R, *OTHERS)))
    late = vote(PREVOTE, P0, None)
    assert [len(tell(host, late, sender=member(who))) for who in OTHERS] == [1, 0, 0]


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


# Broken words


def test_what_was_reported_before_a_crash_is_reported_again_after_it() -> None:
    host = a_host()
    told = tell(host, vote(PREVOTE, P0, R), vote(PREVOTE, P0, None))
    again = Host(host.key)
    again.do(start_height())
    for entry in host.journal:
        again.engine.replay(entry)
    effects = again.engine.resume(Millis(again.now))
    assert only(ReportEvidence, effects) == only(ReportEvidence, told) != []


def test_a_late_vote_that_contradicts_the_height_below_must_be_signed() -> None:
    host = a_host()
    tell(host, vote(PRECOMMIT, P0, None))
    host.do(start_height(2))
    late = vote(PRECOMMIT, P0, R)
    assert [one.fault.code for one in only(Punish, tell(host, replace(late, signature=BAD)))] == ["signature.bad"]
    assert only(ReportEvidence, tell(host, late)) == [
        ReportEvidence(duplicate_vote(vote(PRECOMMIT, P0, None), late))
    ]


def test_of_heights_further_below_nothing_is_kept() -> None:
    host = a_host()
    tell(host, vote(PRECOMMIT, P0, None))
    host.do(start_height(3))
    assert only(ReportEvidence, tell(host, vote(PRECOMMIT, P0, R))) == []
    assert only(ReportEvidence, tell(host, vote(PRECOMMIT, P0, R, height=2))) == []
