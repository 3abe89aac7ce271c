"""Nodes that lie. They run the honest engine and twist what leaves it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from fondaco.consensus.blocks import data_root
from fondaco.consensus.effects import Event, Received
from fondaco.node.simulation.faults import LIARS
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.links import garble
from fondaco.protocol import codec
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
from fondaco.protocol.scalars import Millis, Round, Signature
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
        self.world.count("equivocations")
        opposite = self._opposite(message)
        for place, peer in enumerate(peers):
            self.world.post(self, peer, message if place % 2 else opposite)

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
        self.world.count("split proposals")
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
        self.world.count("cheating blocks")
        return replace(block, header=header, transactions=transactions)


class SilentProposer(SimulatedNode):
    """Votes, and lets every turn to propose pass."""

    honest = False

    def allows_signing(self, statement: Vote | Proposal) -> bool:
        if isinstance(statement, Vote):
            return True
        self.world.count("turns passed")
        return False


class Forger(SimulatedNode):
    """Follows every precommit for a value with a certificate that has its own signature in every place."""

    honest = False

    def broadcast(self, message: ConsensusMessage) -> None:
        super().broadcast(message)
        if not isinstance(message, SignedVote) or message.validator != self.key:
            return
        vote = message.vote
        if vote.kind is VoteKind.PRECOMMIT and vote.value is not None:
            self.world.count("forged certificates")
            signatures: tuple[Signature | None, ...] = (message.signature,) * (len(self.peers()) + 1)
            super().broadcast(
                CommitCertificate(height=vote.height, round=vote.round, value=vote.value, signatures=signatures)
            )


class Withholder(SimulatedNode):
    """Shows its block to a few only, and votes for it before all: the others hear of what they cannot judge."""

    honest = False

    def broadcast(self, message: ConsensusMessage) -> None:
        if not isinstance(message, SignedProposal) or message.proposer != self.key:
            super().broadcast(message)
            return
        self.world.count("blocks withheld")
        peers = self.peers()
        shown = (message.proposal.height + message.proposal.round) % len(peers)
        for peer in peers[:shown]:
            self.world.post(self, peer, message)


class Amnesiac(SimulatedNode):
    """Never votes twice in a round, and in the next has forgotten what it is locked on."""

    honest = False

    def broadcast(self, message: ConsensusMessage) -> None:
        super().broadcast(message)
        driver = self.engine.driver
        if driver is not None and driver.state.locked is not None:
            self.world.count("locks forgotten")
            driver.state = replace(driver.state, locked=None, valid=None)


class Racer(SimulatedNode):
    """Votes like anybody, and for nothing at all in a round that nobody has reached."""

    honest = False

    def broadcast(self, message: ConsensusMessage) -> None:
        super().broadcast(message)
        if not isinstance(message, SignedVote) or message.validator != self.key:
            return
        self.world.count("votes ahead")
        ahead = Round(message.vote.round + self.world.random.randint(1, 3))
        vote = replace(message.vote, round=ahead, value=None, valid_round=None)
        signature = self.world.scheme.sign(self.world.chain, self.key, vote)
        self.world.post(self, None, SignedVote(vote=vote, validator=self.key, signature=signature))


class Flooder(SimulatedNode):
    """Repeats what others said long ago, and follows it with bytes that mean nothing."""

    honest = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._heard: deque[ConsensusMessage] = deque(maxlen=200)

    def take(self, event: Event) -> None:
        if isinstance(event, Received):
            self._heard.append(event.message)
        super().take(event)

    def broadcast(self, message: ConsensusMessage) -> None:
        super().broadcast(message)
        random = self.world.random
        for old in random.sample(self._heard, min(3, len(self._heard))):
            self.world.count("stale messages")
            self.world.post(self, None, old)
        self.world.count("garbage")
        self.world.post_bytes(self, None, garble(codec.encode(message), random))
        self.world.post_bytes(self, None, random.randbytes(random.randint(1, 500)))


KINDS: dict[str, type[SimulatedNode]] = {
    "equivocators": Equivocator,
    "split_proposers": SplitProposer,
    "withholders": Withholder,
    "amnesiacs": Amnesiac,
    "racers": Racer,
    "flooders": Flooder,
    "forgers": Forger,
    "ledger_cheats": LedgerCheat,
    "silent_proposers": SilentProposer,
}
"""By the field of `Faults` that says how many there are."""
assert tuple(KINDS) == LIARS
