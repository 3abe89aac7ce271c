"""What the ledger says happened, in the order it happened. Tags 80-99; a header commits to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import (
    DeploymentId,
    LeaseId,
    MicroCredits,
    MicroStake,
    PublicKey,
    TxId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionApplied:
    """Included; `code` is empty where its messages took effect, else why they were refused."""

    TAG: ClassVar[int] = 80
    id: TxId
    fee: MicroCredits
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    TAG: ClassVar[int] = 81
    sender: PublicKey
    to: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    TAG: ClassVar[int] = 82
    to: PublicKey
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRegistered:
    TAG: ClassVar[int] = 83
    provider: PublicKey
    bond: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOpened:
    TAG: ClassVar[int] = 84
    lease: LeaseId
    deployment: DeploymentId
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
class Paid:
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
    """Nobody took the lease up in time; `fee` went to the community pool."""

    TAG: ClassVar[int] = 92
    lease: LeaseId
    fee: MicroCredits


Event = (
    TransactionApplied
    | Transferred
    | Minted
    | ProviderRegistered
    | LeaseOpened
    | Deposited
    | LeaseActivated
    | Paid
    | RanDry
    | Resumed
    | LeaseClosed
    | Refunded
    | HandoffLapsed
)
