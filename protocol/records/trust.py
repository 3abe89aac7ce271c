"""What auditors say of providers, and who may make money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Hash, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """One auditor's word on one provider: attributes that the provider states with these very values."""

    TAG: ClassVar[int] = 210
    provider: PublicKey
    auditor: PublicKey
    attributes: tuple[Attribute, ...]
    """At least one, sorted by key."""
    attested_at: Millis
    expires_at: Millis
    """The last block time at which it holds."""
    evidence: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who may mint credits; named in genesis."""

    TAG: ClassVar[int] = 211
    key: PublicKey


ISSUER = b"issuer"


def key_attestation(provider: PublicKey, auditor: PublicKey) -> bytes:
    """Ordered by provider, so that all that is said of one is found together."""
    return b"attestation/" + provider + auditor


def key_attestation_expiry(expires_at: Millis, provider: PublicKey, auditor: PublicKey) -> bytes:
    """Ordered by time, so that attestations are forgotten when they have expired."""
    return b"attestation-expiry/" + expires_at.to_bytes(8, "big") + provider + auditor
