"""Orders, bids, attestations and outages out of `market.db`, in the order of time."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fondaco.protocol import addresses, reasons
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.resources import Attribute, Group, Placement, Totals
from fondaco.protocol.scalars import Hash, MicroCredits, Millis, PublicKey
from fondaco.protocol.selection import Candidate, Offered

FAULTS = (reasons.PROVIDER.start, reasons.PROVIDER.stop - 1, reasons.HANDOFF_TIMEOUT, reasons.FAULT)
"""A lease that ends for one of these, the first two a span, counts as an outage of its provider."""
_NOWHERE = Placement(attributes=(), all_of=(), any_of=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A bid, and when this node heard it."""

    at: Millis
    candidate: Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One group of an order with the bids it got, in the order they came."""

    order: str
    index: int
    tenant: PublicKey
    at: Millis
    group: Group
    bids: tuple[Seen, ...]
    taken: PublicKey | None
    """Who served it in fact; None where it never became a lease here."""


class Recording:
    """One `market.db`, read only. What is small is read at once; orders and bids are streamed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.attributes = {
            _key(address): _attributes(text)
            for address, text in connection.execute("SELECT address, attributes FROM providers")
        }
        """Of each provider, as registered last: what was registered before is not kept."""
        self._outages: dict[PublicKey, list[int]] = defaultdict(list)
        first, last, *others = FAULTS
        query = (
            "SELECT provider, closed_at FROM leases WHERE closed_at IS NOT NULL AND provider IS NOT NULL"
            " AND (reason BETWEEN ? AND ? OR reason IN (?, ?)) ORDER BY closed_at"
        )
        for address, closed_at in connection.execute(query, (first, last, *others)):
            self._outages[_key(address)].append(closed_at)
        self._attested: dict[PublicKey, list[tuple[str, int, int | None]]] = defaultdict(list)
        for provider, auditor, time_ms, expires_at in connection.execute(
            "SELECT provider, auditor, time_ms, expires_at FROM attestations ORDER BY provider, auditor"
        ):
            self._attested[_key(provider)].append((auditor, time_ms, expires_at))

    def outages(self, provider: PublicKey, until: Millis) -> int:
        """How many had been by then."""
        return bisect_right(self._outages.get(provider, ()), until)

    def auditors(self, provider: PublicKey, at: Millis) -> frozenset[str]:
        """Who attested something of it that held then. An attestation that was renewed counts from then on."""
        said = self._attested.get(provider)
        if said is None:
            return NOBODY
        return frozenset(who for who, since, until in said if since <= at and (until is None or at < until))

    def newest(self) -> Millis:
        """When the newest order came; 0 where there is none."""
        (found,) = self._db.execute("SELECT max(seen_at) FROM orders").fetchone()
        return Millis(found or 0)

    def count(self, since: Millis) -> int:
        """Orders there are from then on."""
        (found,) = self._db.execute("SELECT count(*) FROM orders WHERE seen_at >= ?", (since,)).fetchone()
        return int(found)

    def asked(self, since: Millis) -> Iterator[Asked]:
        """Every group of every order heard from then on, by the time of the order."""
        orders = self._db.execute(
            "SELECT id, tenant, groups, seen_at FROM orders WHERE seen_at >= ? ORDER BY seen_at, id", (since,)
        )
        bids = self._db.cursor()
        for order, tenant, groups, seen_at in orders:
            by_group: dict[int, list[Seen]] = defaultdict(list)
            for index, *row in bids.execute(_BIDS, (order,)):
                by_group[index].append(_seen(row))
            taken = dict(bids.execute(_TAKEN, (order,)).fetchall())
            for index, group in enumerate(json.loads(groups)):
                yield Asked(
                    order=order,
                    index=index,
                    tenant=_key(tenant),
                    at=Millis(seen_at),
                    group=Group(
                        name=group["name"],
                        units=(),
                        placement=_NOWHERE,
                        max_price_per_hour=MicroCredits(group["max_price_per_hour"]),
                    ),
                    bids=tuple(by_group.get(index, ())),
                    taken=_key(taken[index]) if taken.get(index) else None,
                )


NOBODY: frozenset[str] = frozenset()
_BIDS = """
SELECT group_index, seen_at, id, provider, price_per_hour, serial, reclamation_window_ms, expires_at,
  cpu_milli, memory_bytes, gpu_units, storage_bytes, gpu_model
FROM bids WHERE order_id = ? ORDER BY seen_at, id
"""
_TAKEN = "SELECT order_group, provider FROM leases WHERE order_id = ?"


def _seen(row: list[Any]) -> Seen:
    at, identity, provider, price, serial, notice, expires_at, cpu, memory, gpus, storage, models = row
    candidate = Candidate(
        id=Hash(bytes.fromhex(identity)),
        provider=_key(provider),
        price_per_hour=price,
        serial=serial,
        reclamation_window_ms=notice,
        expires_at=expires_at,
        offered=_offered(cpu or 0, memory or 0, gpus or 0, storage or 0, models),
    )
    return Seen(at=at, candidate=candidate)


@lru_cache(maxsize=4_096)
def _offered(cpu: int, memory: int, gpus: int, storage: int, models: str) -> Offered:
    """Most bids are like others."""
    totals = Totals(cpu_milli=cpu, memory_bytes=memory, gpu_units=gpus, storage_bytes=storage)
    names = [name for several in models.split(", ") for name in several.split(" or ") if name]
    return Offered(totals=totals, models=tuple(map(_model, names)))


def _model(name: str) -> GpuModel:
    """As `shown.gpus` writes it: `h100`, `h100 80Gi sxm`. The table does not say who makes it."""
    model, *rest = name.split()
    ram = next((part for part in rest if part[:1].isdigit()), "")
    return GpuModel(vendor="", model=model, ram=ram, interface=next((part for part in rest if part != ram), ""))


@lru_cache(maxsize=65_536)
def _key(address: str) -> PublicKey:
    return addresses.decode(address)


def _attributes(text: str) -> tuple[Attribute, ...]:
    """An object; empty where only a provider's address is known."""
    return tuple(Attribute(key=key, value=value) for key, value in json.loads(text or "{}").items())
