"""Small blocks that hang together by hash and height; nothing in them is signed or executed."""

from __future__ import annotations

from fondaco.protocol.agreement import PROTOCOL_VERSION, Block, CommitCertificate, Header
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, PublicKey, Round, Signature

CHAIN = ChainId("sample-1")
ZERO = Hash(bytes(32))


def sample_block(height: int, previous: Hash = ZERO, transactions: tuple[bytes, ...] = ()) -> Block:
    header = Header(
        version=PROTOCOL_VERSION,
        chain=CHAIN,
        height=Height(height),
        time=Millis(1_000 * height),
        previous=previous,
        validators=ZERO,
        next_validators=ZERO,
        params=ZERO,
        data_root=ZERO,
        evidence_root=ZERO,
        events_root=ZERO,
        state_root=ZERO,
        proposer=PublicKey(bytes(32)),
    )
    return Block(header=header, previous_certificate=None, evidence=(), transactions=transactions)


def sample_certificate(block: Block) -> CommitCertificate:
    return CommitCertificate(
        height=block.header.height,
        round=Round(0),
        value=block.header.hash(),
        signatures=(Signature(bytes(64)), None),
    )
