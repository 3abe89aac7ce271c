"""Nodes that lie. They run the honest engine and twist what leaves it."""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.blocks import data_root
from fondaco.node.simulation.host import SimulatedNode
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    ConsensusMessage,
    Proposal,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
)
from fondaco.protocol.scalars import Millis, Signature
from fondaco.protocol.signing import sha256


class Equivocator(SimulatedNode):
    """Tells some peers one thing and others the opposite, and forgets what it signed."""

    honest = False

    def broadcast(self, message: ConsensusMessage) -> None:
        self.disk.signed = None
        peers = self.peers()
        if not isinstance(message, SignedVote) or message.validator != self.key:
            super().broadcast(message)
            return
        for place, peer in enumerate(peers):
            self.world.post(self, peer, message if place % 2 else self._opposite(message))

    def _opposite(self, message: SignedVote) -> SignedVote:
        vote, driver = message.vote, self.engine.driver
        values = list(driver.blocks) if driver is not None else []
        other = Vote(
            kind=vote.kind,
            height=vote.height,
            round=vote.round,
            value=values[-1] if vote.value is None and values else None,
            valid_round=None,
        )
        signature = self.world.scheme.sign(self.world.chain, self.key, other)
        return SignedVote(vote=other, validator=self.key, signature=signature)


class SplitProposer(Equivocator):
    """Proposes one block to some and another to others; votes like anybody."""

    def broadcast(self, message: ConsensusMessage) -> None:
        if not isinstance(message, SignedProposal) or message.proposer != self.key:
            SimulatedNode.broadcast(self, message)
            return
        header = message.block.header
        starting = self._next_height()
        if header.height != starting.height or message.proposal.valid_round is not None:
            return
        block = self.application.prepare(
            time=Millis(header.time + 1),
            proposer=self.key,
            previous_certificate=message.block.previous_certificate,
            transactions=(),
        )
        proposal = Proposal(
            height=header.height, round=message.proposal.round, value=block.header.hash(), valid_round=None
        )
        signature = self.world.scheme.sign(self.world.chain, self.key, proposal)
        other = SignedProposal(proposal=proposal, block=block, proposer=self.key, signature=signature)
        for place, peer in enumerate(self.peers()):
            self.world.post(self, peer, message if place % 2 else other)


class LedgerCheat(SimulatedNode):
    """Votes like anybody, and proposes blocks that agreement could carry and the ledger must refuse."""

    honest = False

    def propose(self, time: Millis) -> Block:
        block = super().propose(time)
        header, transactions = block.header, block.transactions
        match header.height % 4:
            case 0:
                header = replace(header, state_root=sha256(b"I am rich"))
            case 1:
                header = replace(header, events_root=sha256(b"nothing happened"))
            case 2:
                header = replace(header, next_validators=sha256(b"only me"))
            case _:
                before = [raw for old, _ in self.disk.blocks[-5:] for raw in old.transactions]
                transactions = (*transactions, *before[-1:], b"no transaction")
                header = replace(header, data_root=data_root(block.previous_certificate, transactions))
        return replace(block, header=header, transactions=transactions)


class SilentProposer(SimulatedNode):
    """Votes, and lets every turn to propose pass."""

    honest = False

    def allows_signing(self, statement: Vote | Proposal) -> bool:
        return isinstance(statement, Vote)


class Forger(SimulatedNode):
    """Follows every precommit for a value with a certificate that has its own signature in every place."""

    honest = False

    def broadcast(self, message: ConsensusMessage) -> None:
        super().broadcast(message)
        if not isinstance(message, SignedVote) or message.validator != self.key:
            return
        vote = message.vote
        if vote.kind is VoteKind.PRECOMMIT and vote.value is not None:
            signatures: tuple[Signature | None, ...] = (message.signature,) * (len(self.peers()) + 1)
            super().broadcast(
                CommitCertificate(height=vote.height, round=vote.round, value=vote.value, signatures=signatures)
            )
