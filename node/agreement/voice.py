"""What a validator signs: all that its engine asks for, and nothing against what it signed before."""

from __future__ import annotations

import logging

from fondaco.node.agreement.sign_state import SignState
from fondaco.protocol.agreement import Block, Proposal, SignedProposal, SignedVote, Vote
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Height, PublicKey
from fondaco.protocol.signing import Signer

log = logging.getLogger("fondaco.agreement")


class Voice:
    """A validator's key under its sign state."""

    def __init__(self, chain: ChainId, signer: Signer, state: SignState) -> None:
        self._chain = chain
        self._signer = signer
        self._state = state
        self.silent_through = Height(0)
        """Nothing is signed up to this height: what we signed there we do not remember."""

    @property
    def key(self) -> PublicKey:
        return self._signer.public_key

    def notice_loss(self, height: Height, *, journaled: bool) -> None:
        """Stay silent where the sign state knows of more than the journal and the chain: we may have been locked.

        The journal is flushed before anything is signed, so no crash leaves it behind: somebody removed it, or
        put back an older copy.
        """
        last = self._state.last
        if last is None or last.statement.height < height or (last.statement.height == height and journaled):
            return
        self.silent_through = last.statement.height
        log.error(
            "the journal of height %d is lost: this validator signs nothing until the others have decided it",
            self.silent_through,
        )

    def sign(self, statement: Vote | Proposal, block: Block | None) -> SignedVote | SignedProposal | None:
        """Sign unless it would contradict what was signed before; then stay silent.

        `block` is what a proposal proposes.
        """
        if statement.height <= self.silent_through:
            return None
        try:
            signature = self._state.sign(self._signer, self._chain, statement)
        except Refused as refusal:
            log.warning("not signed: %s", refusal)
            return None
        if isinstance(statement, Vote):
            return SignedVote(vote=statement, validator=self.key, signature=signature)
        assert block is not None, "a proposal comes with its block"
        return SignedProposal(proposal=statement, block=block, proposer=self.key, signature=signature)
