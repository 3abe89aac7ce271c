"""A lease's life, and its escrow's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOpened:
    TAG: ClassVar[int] = 84
    lease: LeaseId
    deployment: DeploymentId
    order: OrderId
    group: GroupIndex
    """Of the order."""
    tenant: PublicKey
    provider: PublicKey
    price_per_hour: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposited:
    TAG: ClassVar[int] = 85
    deployment: DeploymentId
    depositor: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseActivated:
    TAG: ClassVar[int] = 86
    lease: LeaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestUpdated:
    """The tenant wants its next version to run; the provider takes it up when it has been handed over."""

    TAG: ClassVar[int] = 176
    lease: LeaseId
    version: int
    commitment: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseReplaced:
    """Its group is served by another lease from now on; `LeaseOpened` and `LeaseClosed` tell the rest."""

    TAG: ClassVar[int] = 177
    lease: LeaseId
    by: LeaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """The escrow paid for a lease; `RoyaltyPaid` says what of it did not stay with the provider."""

    TAG: ClassVar[int] = 87
    lease: LeaseId
    provider: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class RanDry:
    TAG: ClassVar[int] = 88
    deployment: DeploymentId
    debt: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    TAG: ClassVar[int] = 89
    deployment: DeploymentId


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseReclaimed:
    """Its provider announced the end."""

    TAG: ClassVar[int] = 172
    lease: LeaseId
    at: Millis
    reason: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseClosed:
    TAG: ClassVar[int] = 90
    lease: LeaseId
    reason: int
    paid: MicroCredits
    """In all, over the lease's life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    TAG: ClassVar[int] = 91
    deployment: DeploymentId
    depositor: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffLapsed:
    """The lease ended before its hand-off, let lapse or closed by its tenant; `fee` went to the community pool."""

    TAG: ClassVar[int] = 92
    lease: LeaseId
    fee: MicroCredits
