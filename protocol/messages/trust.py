"""What auditors say of providers, and take back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Hash, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """The sender confirms attributes that a provider states of itself; replaces what it said of it before."""

    TAG: ClassVar[int] = 50
    provider: PublicKey
    attributes: tuple[Attribute, ...]
    """At least one, sorted by key, each as the provider's own record has it."""
    expires_at: Millis
    evidence: Hash
    """SHA-256 of whatever the auditor can show for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Ends an attestation; the sender is its auditor, or the provider, which may refuse to be spoken of."""

    TAG: ClassVar[int] = 51
    provider: PublicKey
    auditor: PublicKey
