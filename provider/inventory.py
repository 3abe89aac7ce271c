"""What a provider has, has promised and has let.

Nothing is ever promised twice: every promise goes through `_book`, which refuses what does not fit, and gives back
through `release`, the only other place where what is free changes. A
reservation lives until its moment passes, unless it became a lease; a lease lives until it is released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Reason
from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import LeaseId, Millis, PublicKey
from fondaco.provider.capacity import Allocation, Load, Node, pack, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Resources set aside for one bid, and then for its lease."""

    id: bytes
    """Of the lease it is for, if the bid wins."""
    tenant: PublicKey
    allocation: Allocation
    expires_at: Millis
    """When it lapses, in block time; without meaning once `lease` is set."""
    lease: LeaseId | None = None


class Inventory:
    """The books over a provider's nodes."""

    def __init__(
        self,
        nodes: Iterable[Node],
        *,
        per_tenant: int = limits.RESERVATIONS_PER_TENANT,
        leases_per_tenant: int = limits.RESERVATIONS,
        leases: int = limits.RESERVATIONS,
    ) -> None:
        """`per_tenant` bounds the reservations of one tenant; the others what it, and all, may have leased.

        A promise counts as a lease there, for it may become one.
        """
        self._nodes = {node.name: node for node in nodes}
        self._per_tenant = per_tenant
        self._leases_per_tenant = leases_per_tenant
        self._leases = leases
        self._reservations: dict[bytes, Reservation] = {}
        self._free = {name: node.capacity for name, node in self._nodes.items()}
        self._everything = _amounts(total(self._free))

    # --- Looking ---

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        return tuple(self._reservations.values())

    def get(self, reservation: bytes) -> Reservation | None:
        return self._reservations.get(reservation)

    def for_lease(self, lease: LeaseId) -> Reservation | None:
        return next((one for one in self._reservations.values() if one.lease == lease), None)

    def held_by(self, tenant: PublicKey) -> int:
        """Reservations, not leases."""
        return sum(one.tenant == tenant and one.lease is None for one in self._reservations.values())

    def free(self) -> dict[str, Load]:
        """What is neither promised nor let, by node; never negative."""
        return dict(self._free)

    def utilisation(self, more: Allocation | None = None) -> dict[str, int]:
        """Thousandths of all there is that are promised or let, and `more` with them.

        By the names that parts of a price have: `cpu`, `memory`, `storage beta2`, `gpu h100`.
        """
        left = _amounts(total(self._free))
        added = {} if more is None else _amounts(total(more.by_node()))
        return {
            name: min(1_000, (amount - left.get(name, 0) + added.get(name, 0)) * 1_000 // amount)
            for name, amount in self._everything.items()
            if amount
        }

    def plan(self, units: tuple[ResourceUnit, ...], tenant: PublicKey) -> Allocation | tuple[Reason, ...]:
        """Where `units` would run, or everything that speaks against it.  Changes nothing."""
        reasons = self._capped(tenant)
        found = pack(units, self.free())
        if not isinstance(found, Allocation):
            return reasons + found
        return reasons or found

    def _capped(self, tenant: PublicKey) -> tuple[Reason, ...]:
        """The caps that one more reservation for this tenant would pass."""
        mine = [one for one in self._reservations.values() if one.tenant == tenant]
        held = sum(one.lease is None for one in mine)
        return tuple(
            Reason(dimension=dimension, asked=str(count + 1), available=f"at most {most}")
            for dimension, count, most in (
                ("reservations for this tenant", held, self._per_tenant),
                ("leases for this tenant", len(mine), self._leases_per_tenant),
                ("leases", len(self._reservations), self._leases),
            )
            if count >= most
        )

    # --- Changing ---

    def reserve(
        self, reservation: bytes, *, tenant: PublicKey, allocation: Allocation, expires_at: Millis
    ) -> Reservation:
        """Set a planned allocation aside.

        Raises `Refused`: `inventory.duplicate`, `inventory.tenant_cap` for any of the caps, `inventory.full`, or
        `inventory.overcommit` if it no longer fits.
        """
        if reservation in self._reservations:
            raise Refused("inventory.duplicate", "this order and group already hold a reservation")
        for reason in self._capped(tenant):
            raise Refused("inventory.tenant_cap", str(reason))
        if len(self._reservations) >= limits.RESERVATIONS:
            raise Refused("inventory.full", f"at most {limits.RESERVATIONS} reservations and leases")
        entry = Reservation(id=reservation, tenant=tenant, allocation=allocation, expires_at=expires_at)
        self._book(entry)
        return entry

    def _book(self, entry: Reservation) -> None:
        taken = entry.allocation.by_node()
        for name, load in taken.items():
            if name not in self._free:
                raise Refused("inventory.overcommit", f"there is no node {name!r}")
            if load.is_negative() or not load.fits(self._free[name]):
                raise Refused("inventory.overcommit", f"node {name!r} has no room for this any more")
        for name, load in taken.items():
            self._free[name] = self._free[name].minus(load)
        self._reservations[entry.id] = entry

    def extend(self, reservation: bytes, expires_at: Millis) -> None:
        """Hold a reservation longer, for a bid that replaced another.  Raises `Refused` `inventory.unknown`."""
        entry = self._require(reservation)
        self._reservations[reservation] = replace(entry, expires_at=max(entry.expires_at, expires_at))

    def commit(self, reservation: bytes, lease: LeaseId) -> Reservation:
        """The bid won: keep the resources until the lease is released.

        Doing it again for the same lease changes nothing.  Raises `Refused`: `inventory.unknown`, or
        `inventory.committed` if another lease has it.
        """
        entry = self._require(reservation)
        if entry.lease not in (None, lease):
            raise Refused("inventory.committed", "this reservation already serves another lease")
        entry = self._reservations[reservation] = replace(entry, lease=lease)
        return entry

    def release(self, reservation: bytes) -> bool:
        """Give the resources back; whether there was anything to give."""
        entry = self._reservations.pop(reservation, None)
        if entry is None:
            return False
        for name, load in entry.allocation.by_node().items():
            self._free[name] = self._free[name].plus(load)
            assert self._free[name].fits(self._nodes[name].capacity), "more was given back than there is"
        return True

    def expire(self, now: Millis) -> tuple[bytes, ...]:
        """Drop the reservations whose moment has passed; leases stay.  `now` is block time."""
        gone = tuple(one.id for one in self._reservations.values() if one.lease is None and one.expires_at <= now)
        for reservation in gone:
            self.release(reservation)
        return gone

    def _require(self, reservation: bytes) -> Reservation:
        entry = self._reservations.get(reservation)
        if entry is None:
            raise Refused("inventory.unknown", "there is no such reservation; it may have expired")
        return entry

    # --- Coming back ---

    def restore(self, reservations: Iterable[Reservation]) -> tuple[Reservation, ...]:
        """Take over `reservations` from before a restart, leases first; those that no longer fit are returned.

        A lease among the returned is a workload on a machine that shrank: the caller decides, and must not tear
        down what is paid for.
        """
        homeless = []
        for entry in sorted(reservations, key=lambda one: one.lease is None):
            try:
                if entry.id in self._reservations:
                    continue
                self._book(entry)
            except Refused:
                homeless.append(entry)
        return tuple(homeless)


def _amounts(load: Load) -> dict[str, int]:
    """Of each thing that runs out, by the name that its part of a price has."""
    found = {"cpu": load.cpu_milli, "memory": load.memory_bytes}
    for name, size in load.storage_bytes.items():
        found[f"storage {name or 'ephemeral'}"] = size
    for model, units in load.gpus.items():
        found[f"gpu {model.model}"] = found.get(f"gpu {model.model}", 0) + units
    return found
