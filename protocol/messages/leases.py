"""From an order to a lease and to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.market import SignedBid, SignedOrder, SignedReceipt
from fondaco.protocol.scalars import DeploymentId, GroupIndex, Hash, LeaseId, MicroCredits, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease:
    """Turns an order and one bid a group into a deployment, escrow and leases; the sender is the tenant."""

    TAG: ClassVar[int] = 33
    order: SignedOrder
    bids: tuple[SignedBid, ...]
    """In the order of the groups."""
    deposit: MicroCredits
    """Paid by the tenant, or by the payer that the order names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Adds to a deployment's escrow; anyone may."""

    TAG: ClassVar[int] = 34
    deployment: DeploymentId
    amount: MicroCredits
    payer: PublicKey | None = None
    """Whose spending grant pays; None: the sender's own account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """The provider says that the workload runs, and shows that the tenant handed it over."""

    TAG: ClassVar[int] = 35
    receipt: SignedReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateManifest:
    """The tenant wants something else to run in a lease: its next manifest version, by commitment."""

    TAG: ClassVar[int] = 46
    deployment: DeploymentId
    group: GroupIndex
    commitment: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceLease:
    """Gives one group of a running deployment to another provider, at once and from the same escrow."""

    TAG: ClassVar[int] = 47
    deployment: DeploymentId
    group: GroupIndex
    order: SignedOrder
    """It names what it replaces, and has this one group."""
    bid: SignedBid
    reason: int
    """Why the lease that is replaced ends; as of `CloseLease`, from the tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Pays the provider what a lease owes it by now."""

    TAG: ClassVar[int] = 36
    lease: LeaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaim:
    """The provider wants its machine back: when the window that it promised is over, the ledger ends the lease."""

    TAG: ClassVar[int] = 43
    lease: LeaseId
    reason: int
    """As of `CloseLease`, from the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseDeployment:
    """Ends all leases of a deployment at once; its tenant may, at any time."""

    TAG: ClassVar[int] = 44
    deployment: DeploymentId
    reason: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLease:
    """Ends one lease; the deployment ends, and its escrow is refunded, with its last one."""

    TAG: ClassVar[int] = 37
    lease: LeaseId
    reason: int
    """0-9999 from the tenant, 10000-19999 from the provider; `reasons.FAULT` from anybody else, once the provider
    has been silent for long."""
