"""A stand-in for the ledger where only agreement is looked at: blocks of any bytes, state that is one hash."""

from __future__ import annotations

from fondaco.consensus.blocks import data_root, evidence_root
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.agreement import PROTOCOL_VERSION, Block, CommitCertificate, Header
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, PublicKey
from fondaco.protocol.signing import sha256

GENESIS = sha256(b"genesis of the simulated chain")


class CountingApplication:
    """State is a hash chain over the data roots: a node that executed anything else has another root."""

    def __init__(self, chain: ChainId, validators: ValidatorSet) -> None:
        self._chain = chain
        self._validators = validators
        self._root = GENESIS

    def prepare(
        self,
        *,
        height: Height,
        time: Millis,
        proposer: PublicKey,
        previous: Hash,
        previous_certificate: CommitCertificate | None,
        transactions: tuple[bytes, ...],
    ) -> Block:
        """A block that follows from the state; nothing is kept."""
        data = data_root(previous_certificate, transactions)
        header = Header(
            version=PROTOCOL_VERSION,
            chain=self._chain,
            height=height,
            time=time,
            previous=previous,
            validators=self._validators.hash,
            next_validators=self._validators.advance(1).hash,
            params=GENESIS,
            data_root=data,
            evidence_root=evidence_root(()),
            events_root=GENESIS,
            state_root=sha256(codec.encode((self._root, data, time))),
            proposer=proposer,
        )
        return Block(
            header=header, previous_certificate=previous_certificate, evidence=(), transactions=transactions
        )
