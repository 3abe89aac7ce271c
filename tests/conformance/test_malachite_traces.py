"""Malachite's Quint traces, replayed on one `Driver` a validator.

Theirs gives one output a step and keeps the rest pending; ours draws every conclusion at once. So an output of
theirs must have been among ours by then, and at the end of a height both must have said and decided the same.
Inputs that only hand over a pending conclusion (`PendingDInput`, `StepChangeDInput`, `NoDInput`) say nothing
new and are not replayed; timeouts that theirs rejects as errors fit no step of ours either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.agreement import (
    PRECOMMIT,
    PREVOTE,
    block,
    member,
    proposal,
    round_certificate,
    validators,
    vote,
)
from tests.support.fixtures import SHARED, fixtures_dir

from fondaco.consensus.driver import Driver
from fondaco.consensus.rounds import BuildValue, CastVote, Decide, Output, Propose, Step
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import SignedProposal, SignedVote
from fondaco.protocol.scalars import Hash, Round

FOLDER = SHARED / "fixtures/consensus/malachite_itf/distilled"
NAMES = sorted(file.name for file in FOLDER.glob("*.json"))
Json = dict[str, Any]
KINDS = {"Prevote": PREVOTE, "Precommit": PRECOMMIT}
STEPS = {"ProposeTimeout": Step.PROPOSE, "PrevoteTimeout": Step.PREVOTE, "PrecommitTimeout": Step.PRECOMMIT}


LATE_PROPOSALS = {"random__n4f1_0.json", "random__n4f1_2.json", "random__n4f1_5.json"}
"""Here the host builds a value only after the propose timeout. Their model still proposes it; ours, like the
paper's L19, which proposes on entering the round, does not, and everyone has prevoted nil anyway."""
PRELOADED = {
    "heightLogicTest__fastProcessesDecidesAtHeight0SlowOneCatchesUpTest_0.json",
    "heightLogicTest__preloadVotekeeperOnlyTest_6.json",
    "heightLogicTest__slowProcessAtHeight1Test_3.json",
}
"""Here the model puts delivered votes into the keeper of a validator that has not started, without an input."""


def _index(name: str, of: ValidatorSet) -> int:
    """Their proposer of a round is v[2 + round], counted from 1, at every height; ours is the round-th."""
    return (int(name[1:]) - 2) % len(of.members)


def _value(name: str) -> Hash:
    return block(name.encode()).header.hash()


def _voted(their: Json) -> Hash | None:
    return None if their["tag"] == "Nil" else _value(their["value"])


@dataclass
class Replayed:
    """One validator at one height."""

    name: str
    height: int
    of: ValidatorSet
    driver: Driver = field(init=False)
    said: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.driver = Driver(self.of, member(_index(self.name, self.of), self.of))

    def take(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case CastVote():
                    self.said.append((output.kind, output.round, output.value))
                case Propose():
                    self.said.append(("proposal", output.round, output.value, output.valid_round))
                case Decide():
                    self.said.append(("decided", output.value))
                case BuildValue():
                    self.said.append(("build", output.round))
                case _:
                    pass

    def feed(self, event: Json, round: int) -> None:
        driver, given = self.driver, event["value"]
        match event["tag"]:
            case "StartDInput":
                self.take(driver.start())
            case "ProposeValueDInput":
                self.take(driver.build(driver.state.round, block(given.encode())))
            case "ProposalDInput":
                self.propose(given)
            case "VoteDInput":
                self.take(driver.add_vote(self.vote(given)))
            case "CertificateDInput":
                self.take(driver.add_certificate(round_certificate(*map(self.vote, given))))
            case "TimeoutDInput":
                self.take(driver.timeout(STEPS[given["tag"]], Round(round)))
            case _:
                pass

    def vote(self, their: Json) -> SignedVote:
        return vote(
            KINDS[their["voteType"]["tag"]],
            _index(their["srcAddress"], self.of),
            _voted(their["valueId"]),
            round=their["round"],
            of=self.of,
        )

    def propose(self, their: Json) -> None:
        who = _index(their["srcAddress"], self.of)
        if member(who, self.of) != self.of.proposer(their["round"]) or their["validRound"] >= their["round"]:
            return  # what admission keeps from the driver
        signed: SignedProposal = proposal(
            block(their["proposal"].encode()),
            who=who,
            round=their["round"],
            valid_round=None if their["validRound"] < 0 else their["validRound"],
            of=self.of,
        )
        if self.driver.wants_proposal(signed):
            self.take(self.driver.add_proposal(signed, timely=True))
            self.take(self.driver.judge(signed.proposal.value, valid=their["proposal"] != "invalid"))


def _theirs(output: Json) -> tuple[object, ...] | None:
    given = output["value"]
    match output["tag"]:
        case "VoteOutput":
            return KINDS[given["voteType"]["tag"]], given["round"], _voted(given["valueId"])
        case "ProposalOutput":
            valid_round = None if given["validRound"] < 0 else given["validRound"]
            return "proposal", given["round"], _value(given["proposal"]), valid_round
        case "DecidedOutput":
            return "decided", _value(given[1])
        case "GetValueAndScheduleTimeoutOutput":
            return "build", given[1]
        case _:
            return None


def _lock(ours: Replayed) -> tuple[int, Hash | None]:
    locked = ours.driver.state.locked
    return (-1, None) if locked is None else (locked.round, locked.value)


def replay(file: Path) -> list[str]:
    """What differs."""
    trace = json.loads(file.read_text())
    names = next(iter(trace["steps"][0]["init"].values()))["valset"]
    of = validators(*[1] * len(names))
    now: dict[str, Replayed] = {}
    rounds: dict[str, int] = {}
    delivered: dict[tuple[str, int], list[Json]] = {}
    differences = []
    last: dict[tuple[str, int], tuple[Replayed, Json]] = {}
    for step in trace["steps"]:
        if "input" not in step:
            if file.name in PRELOADED:
                for who, given in step.get("deliver", {}).items():
                    for their in given.get("incomingVotes", []):
                        delivered.setdefault((who, their["height"]), []).append(their)
            continue
        name, state = step["validator"], step["cs"]
        ours = now.get(name)
        if ours is None or state["height"] != ours.height:
            ours = now[name] = Replayed(name, state["height"], of)
            for their in delivered.get((name, ours.height), []):
                ours.feed({"tag": "VoteDInput", "value": their}, 0)
        ours.feed(step["input"], rounds.get(name, 0))
        rounds[name] = state["round"]
        theirs = _theirs(step["output"])
        late = file.name in LATE_PROPOSALS and theirs is not None and theirs[0] == "proposal"
        if theirs is not None and theirs not in ours.said and not late:
            differences.append(f"step {step['i']}, {name}: they say {theirs}, we said {ours.said[-3:]}")
        last[(name, ours.height)] = (ours, step)
    for (name, height), (ours, step) in last.items():
        if _lock(ours) != (step["cs"]["lockedRound"], _voted(step["cs"]["lockedValue"])):
            differences.append(f"height {height}, {name}: another lock at the end")
    return differences


def test_there_are_34_traces() -> None:
    fixtures_dir("consensus/malachite_itf")
    assert len(NAMES) == 34


@pytest.mark.parametrize("name", NAMES or ["(none here)"])
def test_the_trace_replays(name: str) -> None:
    fixtures_dir("consensus/malachite_itf")
    assert replay(FOLDER / name) == []
