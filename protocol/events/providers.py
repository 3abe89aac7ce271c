"""Providers come, change and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import MicroStake, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAlive:
    """It gave a sign of life."""

    TAG: ClassVar[int] = 171
    provider: PublicKey
    silent_ms: Millis
    """For so long nothing of its leases had been counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRegistered:
    TAG: ClassVar[int] = 83
    provider: PublicKey
    bond: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRetiring:
    """It takes no new leases, and those it has end."""

    TAG: ClassVar[int] = 173
    provider: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRetired:
    """It is gone, and its bond was paid back."""

    TAG: ClassVar[int] = 174
    provider: PublicKey
    bond: MicroStake
