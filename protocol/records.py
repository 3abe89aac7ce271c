"""What the ledger keeps, one record a key, each provable against a header's state root.

Tags 70-79. `key_*` build the keys; a light client asks for a key and gets the record's bytes and a proof.
Money in escrow stays in its deployment record; what is paid moves to accounts at once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.agreement import Validator
from fondaco.protocol.resources import Attribute, ResourceUnit
from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    PublicKey,
    SealingKey,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    TAG: ClassVar[int] = 70
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    TAG: ClassVar[int] = 71
    key: PublicKey
    attributes: tuple[Attribute, ...]
    peer: str
    addresses: tuple[str, ...]
    sealing_key: SealingKey
    bond: MicroStake
    registered_at: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowDeposit:
    """What one depositor put in and is not yet spent; the earliest is spent first."""

    depositor: PublicKey
    amount: MicroCredits


class DeploymentState(enum.IntEnum):
    OPEN = 1
    GRACE = 2
    """The escrow is dry: nothing accrues until a deposit resumes it or the grace ends."""
    CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An order that became leases, and the escrow they draw on."""

    TAG: ClassVar[int] = 72
    id: DeploymentId
    tenant: PublicKey
    state: DeploymentState
    leases: tuple[LeaseId, ...]
    deposits: tuple[EscrowDeposit, ...]
    opened_at: Millis
    dry_at: Millis | None
    """When the escrow ran dry; only in grace."""
    due_at: Millis | None
    """The next moment at which something happens to it by itself; it stands in the due index there."""


class LeaseState(enum.IntEnum):
    AWAITING = 1
    """Agreed and paid for, not yet handed over; lapses with the hand-off window."""
    ACTIVE = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One group served by one provider at one price."""

    TAG: ClassVar[int] = 73
    id: LeaseId
    deployment: DeploymentId
    group: GroupIndex
    tenant: PublicKey
    provider: PublicKey
    price_per_hour: MicroCredits
    units: tuple[ResourceUnit, ...]
    """What was offered and is owed."""
    commitment: Hash
    version: int
    """Of the manifest; counts updates."""
    reclamation_window_ms: Millis
    state: LeaseState
    opened_at: Millis
    activated_at: Millis | None
    active_ms: Millis
    """Served and counted until `accrued_to`; time in grace does not count."""
    accrued_to: Millis
    paid: MicroCredits
    """Paid to the provider since activation."""
    debt: MicroCredits
    """Served but not covered when the escrow ran dry."""
    closed_at: Millis | None
    reason: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """All the money there is: genesis plus minted less burnt; an invariant of every block."""

    TAG: ClassVar[int] = 74
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Running sums that make the invariants cheap to check: what accounts, escrows and bonds hold."""

    TAG: ClassVar[int] = 75
    account_credits: MicroCredits
    escrow_credits: MicroCredits
    pool_credits: MicroCredits
    account_stake: MicroStake
    bonded_stake: MicroStake
    providers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorSets:
    """The sets that decide the next two heights, with their proposer priorities."""

    TAG: ClassVar[int] = 76
    last: tuple[Validator, ...]
    """The set that decided the newest block; empty at genesis."""
    next: tuple[Validator, ...]
    after: tuple[Validator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedIds:
    """Transactions included whose expiry falls in one bucket: how many, and a running hash over them."""

    TAG: ClassVar[int] = 77
    count: int
    digest: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedOrder:
    """An order that was turned into leases; kept until it expires."""

    TAG: ClassVar[int] = 78
    expires_at: Millis


SUPPLY = b"supply"
TOTALS = b"totals"
PARAMS = b"params"
VALIDATORS = b"validators"


def key_account(owner: PublicKey) -> bytes:
    return b"account/" + owner


def key_provider(provider: PublicKey) -> bytes:
    return b"provider/" + provider


def key_deployment(deployment: DeploymentId) -> bytes:
    return b"deployment/" + deployment


def key_lease(lease: LeaseId) -> bytes:
    return b"lease/" + lease


def key_used_order(order: bytes) -> bytes:
    return b"used-order/" + order


def key_used_ids(bucket: int) -> bytes:
    return b"used-ids/" + bucket.to_bytes(8, "big")


def key_used_order_expiry(expires_at: Millis, order: bytes) -> bytes:
    """Ordered by time, so that used orders are forgotten when they have expired."""
    return b"used-order-expiry/" + expires_at.to_bytes(8, "big") + order


def key_due(at: Millis, deployment: DeploymentId) -> bytes:
    """Ordered by time, so that a scan finds what fell due first."""
    return b"due/" + at.to_bytes(8, "big") + deployment
