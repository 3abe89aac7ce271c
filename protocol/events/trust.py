"""What auditors said of providers, and what of it no longer holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Hash, MicroStake, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """Replaces whatever the auditor had said of the provider."""

    TAG: ClassVar[int] = 181
    provider: PublicKey
    auditor: PublicKey
    attributes: tuple[Attribute, ...]
    expires_at: Millis
    evidence: Hash


class Loss(enum.IntEnum):
    """Why something that was attested no longer is."""

    REVOKED = 1
    EXPIRED = 2
    CHANGED = 3
    """The provider states another value, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationLost:
    """`attributes` are no longer attested; with the last of them the attestation is gone."""

    TAG: ClassVar[int] = 182
    provider: PublicKey
    auditor: PublicKey
    attributes: tuple[Attribute, ...]
    cause: Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSlashed:
    """`amount` of the provider's bond went to the community; `bond` is left."""

    TAG: ClassVar[int] = 184
    provider: PublicKey
    amount: MicroStake
    bond: MicroStake
