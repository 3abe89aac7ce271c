"""What a simulated node agrees on, behind a port the ledger can stand in for."""

from __future__ import annotations

from typing import Protocol

from fondaco.consensus.blocks import data_root, evidence_root
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.agreement import PROTOCOL_VERSION, Block, CommitCertificate, Header
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, PublicKey
from fondaco.protocol.signing import sha256

GENESIS = sha256(b"genesis of the simulated chain")


class Application(Protocol):
    """ABCI 2.0 in four calls. Nothing is durable: a restarted node applies its chain again."""

    @property
    def validators(self) -> ValidatorSet:
        """The set that decides the next height."""

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
        """Build and execute a block."""

    def process(self, block: Block) -> bool:
        """Execute a block on an overlay; whether every rule allows it."""

    def apply(self, block: Block) -> None:
        """The block is final."""


class CountingApplication:
    """State is a hash chain over the data roots: a node that executed anything else has another root."""

    def __init__(self, chain: ChainId, validators: ValidatorSet) -> None:
        self._chain = chain
        self._validators = validators
        self._root = GENESIS

    @property
    def validators(self) -> ValidatorSet:
        return self._validators

    @property
    def state_root(self) -> Hash:
        return self._root

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
            state_root=self._after(data, time),
            proposer=proposer,
        )
        return Block(
            header=header, previous_certificate=previous_certificate, evidence=(), transactions=transactions
        )

    def process(self, block: Block) -> bool:
        header = block.header
        return header.state_root == self._after(header.data_root, header.time)

    def apply(self, block: Block) -> None:
        assert self.process(block), f"height {block.header.height}: applied a block that is not valid here"
        self._root = block.header.state_root
        self._validators = self._validators.advance(1)

    def _after(self, data: Hash, time: Millis) -> Hash:
        return sha256(codec.encode((self._root, data, time)))
