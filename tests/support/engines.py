"""One engine and its host at a height of four validators, and the first steps of that height."""

from __future__ import annotations

from dataclasses import replace

from tests.support.agreement import (
    CHAIN,
    PRECOMMIT,
    PREVOTE,
    Host,
    block,
    member,
    only,
    proposal,
    proposer_of,
    start_height,
    vote,
)

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import (
    Effect,
    Punish,
    Received,
    SetTimer,
    Sign,
    Signed,
    Timer,
    TimerFired,
    Validated,
)
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import (
    CommitCertificate,
    ConsensusMessage,
    SignedProposal,
    SignedVote,
    Vote,
)
from fondaco.protocol.scalars import Height, PublicKey, Signature

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


def forged(certificate: CommitCertificate) -> CommitCertificate:
    return replace(certificate, signatures=(BAD,) * 4)
