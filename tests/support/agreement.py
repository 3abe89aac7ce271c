"""Validators, votes and blocks for tests of the agreement core, signed with the simulator's cheap hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from tests.support.counting import GENESIS, CountingApplication

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import Effect, Event, Record, StartHeight
from fondaco.consensus.engine import Engine
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    Proposal,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
)
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, Power, PublicKey, Round

CHAIN = ChainId("unit-1")
PREVOTE, PRECOMMIT = VoteKind.PREVOTE, VoteKind.PRECOMMIT
START = 1_700_000_000_000
E = TypeVar("E")


def validators(*powers: int) -> ValidatorSet:
    """Ordered by key, with these powers in that order; the first one's key is `member(set, 0)`."""
    keys = sorted(identities.key_of(index) for index in range(len(powers)))
    return ValidatorSet.of(zip(keys, (Power(power) for power in powers), strict=True))


FOUR = validators(1, 1, 1, 1)


def member(index: int, of: ValidatorSet = FOUR) -> PublicKey:
    return of.members[index].public_key


def value(name: str) -> Hash:
    return Hash(name.encode().ljust(32, b"."))


def vote(
    kind: VoteKind,
    who: int,
    what: Hash | None,
    *,
    round: int = 0,
    height: int = 1,
    valid_round: int | None = None,
    of: ValidatorSet = FOUR,
) -> SignedVote:
    statement = Vote(
        kind=kind,
        height=Height(height),
        round=Round(round),
        value=what,
        valid_round=None if valid_round is None else Round(valid_round),
    )
    key = member(who, of)
    return SignedVote(vote=statement, validator=key, signature=identities.sign(CHAIN, key, statement))


def block(*transactions: bytes, proposer: int = 0, time: int = START, of: ValidatorSet = FOUR) -> Block:
    """A valid block of height 1."""
    return CountingApplication(CHAIN, of).prepare(
        height=Height(1),
        time=Millis(time),
        proposer=member(proposer, of),
        previous=GENESIS,
        previous_certificate=None,
        transactions=transactions,
    )


def proposal(
    content: Block, *, who: int, round: int = 0, valid_round: int | None = None, of: ValidatorSet = FOUR
) -> SignedProposal:
    statement = Proposal(
        height=content.header.height,
        round=Round(round),
        value=content.header.hash(),
        valid_round=None if valid_round is None else Round(valid_round),
    )
    key = member(who, of)
    signature = identities.sign(CHAIN, key, statement)
    return SignedProposal(proposal=statement, block=content, proposer=key, signature=signature)


def proposer_of(round: int, of: ValidatorSet = FOUR) -> int:
    return of.index[of.proposer(Round(round))]


def round_certificate(*votes: SignedVote) -> RoundCertificate:
    return RoundCertificate(votes=votes)


def commit_certificate(
    what: Hash, *signers: int, height: int = 1, round: int = 0, of: ValidatorSet = FOUR
) -> CommitCertificate:
    signed = {who: vote(PRECOMMIT, who, what, height=height, round=round, of=of) for who in signers}
    return CommitCertificate(
        height=Height(height),
        round=Round(round),
        value=what,
        signatures=tuple(signed[place].signature if place in signed else None for place in range(len(of.members))),
    )


def start_height(height: int = 1, of: ValidatorSet = FOUR, **changes: object) -> StartHeight:
    fields: dict[str, object] = {
        "height": Height(height),
        "validators": of,
        "previous": GENESIS,
        "previous_time": Millis(START - 1_000),
        "previous_certificate": None,
        **changes,
    }
    return StartHeight(**fields)  # type: ignore[arg-type]


@dataclass
class Host:
    """The thinnest host: steps an engine, keeps its journal, sorts its effects."""

    key: PublicKey | None
    config: EngineConfig = field(default_factory=EngineConfig)
    of: ValidatorSet = FOUR
    now: int = START
    journal: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(CHAIN, self.config, identities.verify, self.key)

    def do(self, event: Event, *, after_ms: int = 0) -> tuple[Effect, ...]:
        self.now += after_ms
        effects = self.engine.step(event, Millis(self.now))
        self.journal += [effect.entry for effect in effects if isinstance(effect, Record)]
        return effects


def only(kind: type[E], effects: tuple[Effect, ...]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]
