"""A validator's agreement over real files, and around it a court whose other keys the test holds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio
import trio.testing
from tests.support.chains import Town
from tests.support.ledger import Draft

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import Effect
from fondaco.consensus.engine import Engine
from fondaco.node import clock
from fondaco.node.agreement import Agreement
from fondaco.node.agreement.evidence_pool import EvidencePool, judge_by
from fondaco.node.agreement.journal import Journal
from fondaco.node.agreement.sign_state import SignState
from fondaco.node.mempool import Mempool
from fondaco.node.network.peers import PeerId, peer_id_of
from fondaco.protocol import codec
from fondaco.protocol.agreement import (
    CompactProposal,
    Proposal,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
    WireMessage,
)
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.evidence import Evidence
from fondaco.protocol.scalars import Hash, Height, Round
from fondaco.protocol.signing import Signer, verify


class Crash(Exception):
    """The machine stops here."""


@dataclass
class Wire:
    """Takes the place of the links: keeps what was sent."""

    sent: list[WireMessage | Evidence] = field(default_factory=list)
    to: list[PeerId] = field(default_factory=list)
    linked: list[PeerId] = field(default_factory=list)

    def broadcast(self, frame: bytes) -> None:
        self.sent.append(codec.decode_union(frame, WireMessage | Evidence))

    def send(self, peer: PeerId, frame: bytes) -> None:
        self.to.append(peer)

    def peers(self) -> list[PeerId]:
        return self.linked

    def votes(self) -> list[Vote]:
        return [one.vote for one in self.sent if isinstance(one, SignedVote)]

    def contradictions(self) -> int:
        """Places (height, round, step) for which two different things were signed and sent."""
        said: dict[tuple[int, int, int], set[Vote | Proposal]] = {}
        for one in self.sent:
            if isinstance(one, SignedVote):
                said.setdefault((one.vote.height, one.vote.round, one.vote.kind), set()).add(one.vote)
            elif isinstance(one, SignedProposal | CompactProposal):
                proposal = one.proposal
                said.setdefault((proposal.height, proposal.round, 0), set()).add(proposal)
        return sum(len(statements) > 1 for statements in said.values())


@contextmanager
def crashing() -> Iterator[None]:
    try:
        yield
    except* Crash:
        pass


class Life:
    """One process of a node, from its start to its stop or crash, over the files in `home`."""

    def __init__(
        self, town: Town, home: Path, wire: Wire, *, signer: Signer | None, config: EngineConfig | None = None
    ) -> None:
        self.chain = town.open(home / "chain.db")
        self.mempool = Mempool(self.chain)
        self.journal = Journal.open(home / "journal")
        path = home / "sign-state"
        self.sign_state = SignState.open(path) if path.exists() else SignState.create(path)
        key = None if signer is None else signer.public_key
        engine = Engine(town.chain, config or EngineConfig(), verify, key)
        self.evidence = EvidencePool(home / "evidence", judge_by(self.chain))
        self.agreement = Agreement(
            self.chain,
            self.mempool,
            engine,
            self.journal,
            self.evidence,
            signer=signer,
            sign_state=self.sign_state,
        )
        self.blamed: list[tuple[PeerId, str]] = []
        self.syncs = 0
        self.effects = 0
        self.agreement.attach(wire, self._blame, self._request_sync)  # type: ignore[arg-type]

    def _blame(self, peer: PeerId, fault: PeerFault) -> None:
        self.blamed.append((peer, fault.code))

    def _request_sync(self) -> None:
        self.syncs += 1

    def crash_before_effect(self, number: int) -> None:
        carry_out = self.agreement._do

        def do(effect: Effect) -> Any:
            self.effects += 1
            if self.effects > number:
                raise Crash
            return carry_out(effect)

        self.agreement._do = do  # type: ignore[method-assign]

    def drop(self) -> None:
        """As kill -9 leaves it: nothing that was not written comes after."""
        self.chain.close()
        os.close(self.journal._descriptor)

    def stop(self) -> None:
        self.chain.close()
        self.journal.close()


@asynccontextmanager
async def living(life: Life) -> AsyncIterator[Life]:
    """Run a node's agreement while the block runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.agreement.run)
        yield life
        nursery.cancel_scope.cancel()
    life.stop()


def alone(**params: Any) -> Town:
    """A town with one validator."""
    return Town("alice", "bob", **params)


def pay(town: Town, life: Life, amount: int = 1) -> None:
    """Have a payment of alice to bob wait at `life`."""
    alice, bob = town.actors("alice", "bob")
    life.mempool.add(town.sign(alice.pays(bob, amount), at=clock.now()))


class Court:
    """One of four validators, not the first proposer, with the other keys at hand."""

    def __init__(self, tmp_path: Path, config: EngineConfig | None = None) -> None:
        self.town = Town("alice", "bob", validators=4)
        self.reference = self.town.open(tmp_path / "reference.db")
        self.validators = self.reference.ledger.validators
        self.proposer = self.town.keys[self.validators.proposer(Round(0))]
        self.us = next(signer for signer in self.town.signers() if signer is not self.proposer)
        self.others = [signer for signer in self.town.signers() if signer is not self.us]
        self.wire = Wire()
        self.home = tmp_path
        self.config = config

    def life(self) -> Life:
        return Life(self.town, self.home, self.wire, signer=self.us, config=self.config)

    def block(self, *drafts: Draft, **header: Any) -> Any:
        block = self.town.propose_on(self.reference, *drafts, at=clock.now())
        return replace(block, header=replace(block.header, **header))

    def proposal(self, block: Any) -> SignedProposal:
        statement = Proposal(height=Height(1), round=Round(0), value=block.header.hash(), valid_round=None)
        signature = self.proposer.sign(self.town.chain, statement)
        return SignedProposal(
            proposal=statement, block=block, proposer=self.proposer.public_key, signature=signature
        )

    def vote(self, signer: Signer, kind: VoteKind, value: Hash | None, round: int = 0) -> SignedVote:
        vote = Vote(kind=kind, height=Height(1), round=Round(round), value=value, valid_round=None)
        return SignedVote(vote=vote, validator=signer.public_key, signature=signer.sign(self.town.chain, vote))

    async def tell(self, life: Life, *messages: WireMessage, sender: Signer | None = None) -> None:
        peer = peer_id_of((sender or self.proposer).public_key)
        for message in messages:
            await life.agreement.on_frame(peer, codec.encode(message))
        await trio.testing.wait_all_tasks_blocked()

    def said(self, kind: VoteKind) -> list[Hash | None]:
        ours = [
            one for one in self.wire.sent if isinstance(one, SignedVote) and one.validator == self.us.public_key
        ]
        return [one.vote.value for one in ours if one.vote.kind is kind]


PATIENT = EngineConfig(propose_ms=60_000, prevote_ms=60_000, precommit_ms=60_000, rebroadcast_ms=60_000)
