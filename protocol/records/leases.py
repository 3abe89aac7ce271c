"""Deployments with their escrow, leases, and orders that were used."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import (
    DeploymentId,
    GroupIndex,
    Hash,
    LeaseId,
    MicroCredits,
    Millis,
    PublicKey,
    TemplateId,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowDeposit:
    """What one depositor put in and is not yet spent; the earliest is spent first."""

    depositor: PublicKey
    amount: MicroCredits
    grantee: PublicKey | None = None
    """Who paid it in by a spending grant of the depositor's; it does again with what is refunded."""


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
    template: TemplateId | None = None
    """Whose authors get a share of what its leases pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclamation:
    """The end of a lease, announced by its provider as early as it had promised."""

    at: Millis
    """When the ledger itself closes the lease."""
    reason: int


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
    """Served and counted until `accrued_to`; time in grace, and time in which the provider gave no sign of life,
    does not count."""
    accrued_to: Millis
    reading: Millis
    """Of its provider's clock (`SignsOfLife`) at `accrued_to`."""
    paid: MicroCredits
    """Paid to the provider since activation."""
    debt: MicroCredits
    """Served but not covered when the escrow ran dry."""
    reclamation: Reclamation | None
    """The provider wants it back; until then it is served and paid as before."""
    closed_at: Millis | None
    reason: int | None
    generation: int = 0
    """How often this group of its deployment had been given to another provider before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedOrder:
    """An order that was turned into leases; kept until it expires."""

    TAG: ClassVar[int] = 78
    expires_at: Millis


def key_deployment(deployment: DeploymentId) -> bytes:
    return b"deployment/" + deployment


def key_lease(lease: LeaseId) -> bytes:
    return b"lease/" + lease


def key_due(at: Millis, deployment: DeploymentId) -> bytes:
    """Ordered by time, so that a scan finds what fell due first."""
    return b"due/" + at.to_bytes(8, "big") + deployment


def key_used_order(order: bytes) -> bytes:
    return b"used-order/" + order


def key_used_order_expiry(expires_at: Millis, order: bytes) -> bytes:
    """Ordered by time, so that used orders are forgotten when they have expired."""
    return b"used-order-expiry/" + expires_at.to_bytes(8, "big") + order


def key_live(provider: PublicKey, lease: LeaseId, *, announced: bool) -> bytes:
    """The leases of a provider that have not ended, those whose end it has not announced first."""
    return b"live/" + provider + bytes((announced,)) + lease


def key_closed(at: Millis, ended: DeploymentId | LeaseId) -> bytes:
    """Ordered by time, so that what ended long ago leaves the state."""
    return b"closed/" + at.to_bytes(8, "big") + ended
