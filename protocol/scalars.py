"""The small types everything is made of.

A `NewType` costs nothing at run time and stops a height from being passed where milliseconds are meant.
`BOUNDS` gives each its legal range: the length in bytes for byte strings and text, the value for integers.
The codec enforces it at every decode, so no message can carry a scalar outside it.
"""

from __future__ import annotations

from typing import NewType

PublicKey = NewType("PublicKey", bytes)
"""An ed25519 public key; it names an account, a validator, a provider or a peer."""
Signature = NewType("Signature", bytes)
Hash = NewType("Hash", bytes)
"""SHA-256."""
Salt = NewType("Salt", bytes)
"""Sixteen random bytes that make otherwise equal messages differ."""
BlindingSalt = NewType("BlindingSalt", bytes)
"""Thirty-two random bytes hiding a committed manifest (market.md, group commitment)."""
SealingKey = NewType("SealingKey", bytes)
"""An x25519 public key that manifests are sealed to."""
ChainId = NewType("ChainId", str)

OrderId = NewType("OrderId", bytes)
DeploymentId = NewType("DeploymentId", bytes)
LeaseId = NewType("LeaseId", bytes)
TxId = NewType("TxId", bytes)
TemplateId = NewType("TemplateId", bytes)

ProposalNumber = NewType("ProposalNumber", int)
"""Proposals are counted from 1."""

Height = NewType("Height", int)
Round = NewType("Round", int)
Millis = NewType("Millis", int)
"""Milliseconds: a moment since the Unix epoch, or a length of time."""
MicroCredits = NewType("MicroCredits", int)
"""10^-6 credit."""
MicroStake = NewType("MicroStake", int)
"""10^-6 stake."""
Power = NewType("Power", int)
"""Voting power of a validator."""
Priority = NewType("Priority", int)
"""Proposer priority; the only scalar that may be negative."""
GroupIndex = NewType("GroupIndex", int)

INT_MAX = 2**63 - 1

BOUNDS: dict[object, tuple[int, int]] = {
    PublicKey: (32, 32),
    Signature: (64, 64),
    Hash: (32, 32),
    Salt: (16, 16),
    BlindingSalt: (32, 32),
    SealingKey: (32, 32),
    ChainId: (1, 64),
    OrderId: (32, 32),
    DeploymentId: (32, 32),
    LeaseId: (32, 32),
    TxId: (32, 32),
    TemplateId: (32, 32),
    Round: (0, 2**31 - 1),
    Priority: (-INT_MAX, INT_MAX),
    GroupIndex: (0, 255),
}
"""NewTypes not listed take the default of their base type: integers 0..2^63-1, text and bytes as in `limits`."""
