"""The simulator must be able to fail: known bugs, planted by changing a rule from here, and soon found.

Nothing in the product knows of this. Each bug is looked for as anybody would look: seed after seed of a profile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fondaco.consensus import admission, rounds
from fondaco.consensus.certificates import verify_commit
from fondaco.consensus.engine import Engine
from fondaco.consensus.height import AtHeight
from fondaco.consensus.journal_entries import Happened
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation.profiles import Profile, Task, run
from fondaco.protocol.agreement import Block, Proposal, Vote

SEEDS = 40
"""Within so many each bug is found; most are in the first few."""
RARE = 400
"""For what one seed in some thirty-five shows: forty seeds miss it in every third version of the program."""
HEIGHTS = 30

Patch = pytest.MonkeyPatch


def unlock_on_nil_polka(monkeypatch: Patch) -> None:
    """L44 as in many a textbook before the paper: a polka for nil frees the lock."""
    right = rounds._in_prevote

    def wrong(state: rounds.State, event: rounds.Input) -> rounds.Transition:
        after, output = right(state, event)
        if event.kind is rounds.Kind.POLKA_NIL:
            after = replace(after, locked=None)
        return after, output

    monkeypatch.setattr(rounds, "_in_prevote", wrong)


def vote_before_journal(monkeypatch: Patch) -> None:
    """The entry that makes us vote is written after the vote has left."""
    right = Engine._take

    def wrong(self: Engine, entry: Happened, here: AtHeight) -> None:
        here.in_journal = True
        effects = self._outbox._effects
        before = len(effects)
        right(self, entry, here)
        effects.append(effects.pop(before))

    monkeypatch.setattr(Engine, "_take", wrong)


def skip_at_f(monkeypatch: Patch) -> None:
    """L55 with f instead of f + 1: no honest validator need be in the round that one skips to."""

    def wrong(self: ValidatorSet, weight: int) -> bool:
        return weight >= (self.total - 1) // 3

    monkeypatch.setattr(ValidatorSet, "has_third", wrong)


def unchecked_certificate(monkeypatch: Patch) -> None:
    assert admission.verify_commit is verify_commit  # type: ignore[attr-defined]
    monkeypatch.setattr(admission, "verify_commit", lambda certificate, validators, holds: None)


def quorum_of_a_third(monkeypatch: Patch) -> None:
    monkeypatch.setattr(ValidatorSet, "has_quorum", ValidatorSet.has_third)


def decide_at_two_thirds(monkeypatch: Patch) -> None:
    """Not more than two thirds, but as many: one validator of six too few."""
    monkeypatch.setattr(ValidatorSet, "has_quorum", lambda self, weight: 3 * weight >= 2 * self.total)


def prevote_against_the_lock(monkeypatch: Patch) -> None:
    """L22 for a fresh value, whatever one is locked on."""
    _without_a_lock(monkeypatch, rounds.Kind.PROPOSAL)


def any_polka_opens_the_lock(monkeypatch: Patch) -> None:
    """L28 without a look at the round of the polka: one older than the lock will do."""
    _without_a_lock(monkeypatch, rounds.Kind.PROPOSAL_AND_POLKA_PREVIOUS)


def _without_a_lock(monkeypatch: Patch, kind: rounds.Kind) -> None:
    right = rounds._in_propose

    def wrong(state: rounds.State, event: rounds.Input) -> rounds.Transition:
        if event.kind is not kind:
            return right(state, event)
        after, output = right(replace(state, locked=None), event)
        return replace(after, locked=state.locked), output

    monkeypatch.setattr(rounds, "_in_propose", wrong)


def sign_what_is_decided(monkeypatch: Patch) -> None:
    """Vote on at a height that a certificate shows to be final."""
    right = AtHeight._sign

    def wrong(self: AtHeight, statement: Vote | Proposal, block: Block | None) -> None:
        final, self.final = self.final, False
        right(self, statement, block)
        self.final = final

    monkeypatch.setattr(AtHeight, "_sign", wrong)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("plant", "profile", "nodes", "seeds"),
    [
        (unlock_on_nil_polka, Profile.BYZANTINE, 4, SEEDS),
        (vote_before_journal, Profile.SAFETY, 4, SEEDS),
        (skip_at_f, Profile.BYZANTINE, 4, SEEDS),
        (unchecked_certificate, Profile.BYZANTINE, 4, SEEDS),
        (quorum_of_a_third, Profile.SAFETY, 4, SEEDS),
        (decide_at_two_thirds, Profile.SAFETY, 6, SEEDS),
        (prevote_against_the_lock, Profile.SAFETY, 4, SEEDS),
        pytest.param(
            any_polka_opens_the_lock,
            Profile.BYZANTINE,
            4,
            RARE,
            marks=[pytest.mark.heavy, pytest.mark.timeout(600)],
        ),
        (sign_what_is_decided, Profile.BYZANTINE, 4, SEEDS),
    ],
)
def test_a_planted_bug_is_caught_within_a_bounded_number_of_seeds(
    monkeypatch: Patch, plant: Callable[[Patch], None], profile: Profile, nodes: int, seeds: int
) -> None:
    plant(monkeypatch)
    assert any(run(_task(seed, profile, nodes)).violations for seed in range(seeds))


@pytest.mark.parametrize("profile", Profile)
def test_without_a_planted_bug_the_same_seeds_pass(profile: Profile) -> None:
    for seed in range(5):
        assert run(_task(seed, profile, 4)).violations == ()


def _task(seed: int, profile: Profile, nodes: int) -> Task:
    return Task(seed=seed, profile=profile, nodes=nodes, heights=HEIGHTS)
