"""The words of scenario files: commands taken apart, effects put into words. See `tests.support.scenarios`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.agreement import START, member

from fondaco.consensus.effects import (
    Broadcast,
    CancelTimer,
    Commit,
    Effect,
    GetValue,
    Punish,
    Record,
    ReportEvidence,
    RequestSync,
    Send,
    SetTimer,
    Sign,
    Validate,
)
from fondaco.consensus.journal_entries import (
    BuiltEntry,
    HeightEntry,
    MessageEntry,
    RoundZeroEntry,
    TimeoutEntry,
    VerdictEntry,
    decode_entry,
)
from fondaco.node.simulation import identities
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
from fondaco.protocol.evidence import Amnesia, DuplicateVote
from fondaco.protocol.scalars import Hash, Height, PublicKey

NAMES = ("ann", "bob", "cyd", "dan")
KEYS = {**{name: member(place) for place, name in enumerate(NAMES)}, "eve": identities.key_of(len(NAMES))}


@dataclass
class Words:
    """A command, taken apart: `prevote X r1 vr0 from ann bob`."""

    verb: str
    plain: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    round: int = 0
    valid_round: int | None = None
    height: int | None = None

    @classmethod
    def of(cls, command: str) -> Words:
        verb, *rest = command.split()
        words = cls(verb)
        naming = False
        for word in rest:
            if word in ("from", "by"):
                naming = True
            elif naming and word in KEYS:
                words.names.append(word)
            elif word[0] == "r" and word[1:].isdigit():
                words.round = int(word[1:])
            elif word[:2] == "vr" and word[2:].isdigit():
                words.valid_round = int(word[2:])
            elif word[0] == "h" and word[1:].isdigit():
                words.height = int(word[1:])
            else:
                words.plain.append(word)
        return words


@dataclass
class Narrator:
    """Says in a line what an effect is, seen by `us` at `height`."""

    us: str = "dan"
    height: Height | None = None
    heard: ConsensusMessage | None = None
    """What the engine was told last; in the journal it is `it`."""
    blocks: dict[str, Block] = field(default_factory=dict)

    def name(self, value: Hash) -> str:
        return next(name for name, block in self.blocks.items() if block.header.hash() == value)

    def effect(self, effect: Effect) -> str:
        match effect:
            case Record(entry):
                return f"journal {self._entry(entry)}"
            case Sign(statement):
                return f"sign {self.statement(statement)}"
            case Broadcast(message):
                return f"broadcast {self._message(message)}"
            case Send(peer, message):
                return f"send {_who(peer)} {self._message(message)}"
            case SetTimer(timer, _, delay):
                return f"set timer {timer.name.lower()} {delay} ms"
            case CancelTimer(timer):
                return f"cancel timer {timer.name.lower()}"
            case GetValue():
                return f"build a block for r{effect.round}, stamped {effect.time - START} ms"
            case Validate(block):
                return f"execute {self.name(block.header.hash())}"
            case Commit(block, certificate):
                return f"COMMIT {self.name(block.header.hash())}, decided in r{certificate.round}"
            case ReportEvidence(evidence):
                return self._report(evidence)
            case RequestSync(height):
                return f"ask others for h{height}"
            case Punish(peer, fault):
                return f"punish {_who(peer)}: {fault.code}"

    def _report(self, evidence: DuplicateVote | Amnesia) -> str:
        if isinstance(evidence, Amnesia):
            precommit, prevote = self.statement(evidence.precommit.vote), self.statement(evidence.prevote.vote)
            return f"report {_who(evidence.prevote.validator)}: {precommit}, forgotten in {prevote}"
        one, other = sorted(self.statement(signed.vote) for signed in (evidence.first, evidence.second))
        return f"report {_who(evidence.first.validator)}: {one} and {other}"

    def _entry(self, data: bytes) -> str:
        match entry := decode_entry(data):
            case HeightEntry():
                return f"h{entry.height}"
            case RoundZeroEntry():
                return "the beginning of r0"
            case MessageEntry() if entry.own:
                return f"our {self._message(entry.message)}"
            case MessageEntry():
                return "it" if entry.message == self.heard else f"what had waited: {self._message(entry.message)}"
            case TimeoutEntry():
                return "it"
            case BuiltEntry():
                return "it"
            case VerdictEntry():
                return f"that {self.name(entry.value)} is {'valid' if entry.valid else 'INVALID'}"

    def _message(self, message: ConsensusMessage) -> str:
        match message:
            case SignedVote():
                own = message.validator == KEYS.get(self.us)
                return self.statement(message.vote) + ("" if own else f" of {_who(message.validator)}")
            case SignedProposal():
                own = message.proposer == KEYS.get(self.us)
                return self.statement(message.proposal) + ("" if own else f" of {_who(message.proposer)}")
            case RoundCertificate():
                groups = itertools.groupby(message.votes, key=lambda signed: self.statement(signed.vote))
                said = (f"{what} by {_all(vote.validator for vote in votes)}" for what, votes in groups)
                return f"certificate: {', '.join(said)}"
            case CommitCertificate():
                signers = (
                    key for key, signature in zip(KEYS.values(), message.signatures, strict=False) if signature
                )
                return f"commit {self.name(message.value)} r{message.round} by {_all(signers)}"

    def statement(self, statement: Vote | Proposal) -> str:
        what = "proposal" if isinstance(statement, Proposal) else statement.kind.name.lower()
        words = [what, "nil" if statement.value is None else self.name(statement.value), f"r{statement.round}"]
        if statement.valid_round is not None:
            words.append(f"vr{statement.valid_round}")
        if statement.height != self.height:
            words.append(f"h{statement.height}")
        return " ".join(words)


def _who(key: PublicKey) -> str:
    return next(name for name, other in KEYS.items() if other == key)


def _all(keys: Iterable[PublicKey]) -> str:
    return " ".join(_who(key) for key in keys)


def shortened(lines: list[str]) -> list[str]:
    """Equal lines as one, and what is signed, journalled and sent without a pause as one."""
    found: list[str] = []
    at = 0
    while at < len(lines):
        what = lines[at].removeprefix("sign ")
        if lines[at : at + 3] == [f"sign {what}", f"journal our {what}", f"broadcast {what}"]:
            found.append(f"say {what}")
            at += 3
            continue
        same = len(list(itertools.takewhile(lines[at].__eq__, lines[at:])))
        found.append(lines[at] if same == 1 else f"{lines[at]} ({same} times)")
        at += same
    return found
