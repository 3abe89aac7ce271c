"""The engine ahead of others, behind them, and at what is below it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import (
    FOUR,
    PRECOMMIT,
    PREVOTE,
    Host,
    commit_certificate,
    member,
    only,
    proposal,
    round_certificate,
    start_height,
    value,
    vote,
)
from tests.support.engines import (
    BAD,
    OTHERS,
    P0,
    PEER,
    RED,
    R,
    a_host,
    decided_red,
    faults,
    fire,
    forged,
    prevoted_red,
    tell,
)

from fondaco.consensus.effects import (
    Commit,
    Punish,
    ReportEvidence,
    RequestSync,
    Send,
    SetTimer,
    Sign,
    Timer,
    Wake,
)
from fondaco.consensus.journal_entries import MessageEntry, decode_entry
from fondaco.protocol import limits
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.scalars import Height, Millis, Round

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
    assert tell(host, forged(commit_certificate(R, 0, height=3))) == ()


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
