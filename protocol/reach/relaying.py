"""A relay's book: who has a place with it, which circuits are open, and what each may still carry.

It decides and counts, and moves no bytes. Times are seconds of the caller's clock, one that never goes back.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fondaco.protocol.errors import Refused
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.circuit import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one relay grants."""

    reservations: int = bounds.RESERVATIONS
    reservations_per_address: int = bounds.RESERVATIONS_PER_ADDRESS
    reservation_ms: int = bounds.RESERVATION_MS
    circuits: int = bounds.CIRCUITS
    circuits_to_peer: int = bounds.CIRCUITS_TO_PEER
    circuits_from_peer: int = bounds.CIRCUITS_FROM_PEER
    circuits_from_address: int = bounds.CIRCUITS_FROM_ADDRESS
    circuit_ms: int = bounds.CIRCUIT_LIFE_MS
    circuit_bytes: int = bounds.CIRCUIT_BYTES
    idle_ms: int = bounds.CIRCUIT_IDLE_MS


class NotRelayed(Refused):
    """A request that a relay turns down."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(f"relay.{status.name.lower()}", message)
        self.status = status


@dataclass(slots=True, eq=False)
class Circuit:
    """One that is open: from whom to whom, and the bytes it has left."""

    source: str
    address: str
    target: str
    bytes_left: int

    def spend(self, size: int) -> bool:
        """Whether `size` more bytes may pass."""
        self.bytes_left -= size
        return self.bytes_left >= 0


@dataclass(slots=True, kw_only=True)
class _Place:
    expires: float
    address: str


class RelayBook:
    """Peers and addresses are the caller's names for them; an empty address is shared by nobody."""

    def __init__(self, terms: Terms | None = None) -> None:
        self.terms = terms or Terms()
        self._places: dict[str, _Place] = {}
        self._circuits: set[Circuit] = set()
        self._to: Counter[str] = Counter()
        self._from: Counter[str] = Counter()
        self._from_address: Counter[str] = Counter()

    @property
    def places(self) -> int:
        return len(self._places)

    @property
    def circuits(self) -> int:
        return len(self._circuits)

    def reserve(self, peer: str, address: str, now: float) -> float:
        """Keep a place for `peer`, anew or for longer; return until when. Raises `NotRelayed`."""
        self._places = {one: place for one, place in self._places.items() if place.expires > now}
        others = [place for one, place in self._places.items() if one != peer]
        if len(others) >= self.terms.reservations:
            raise NotRelayed(Status.RESERVATION_REFUSED, "every place is taken")
        near = sum(bool(address) and place.address == address for place in others)
        if near >= self.terms.reservations_per_address:
            raise NotRelayed(Status.RESERVATION_REFUSED, f"{near} places are taken from {address}")
        expires = now + self.terms.reservation_ms / 1000
        self._places[peer] = _Place(expires=expires, address=address)
        return expires

    def forget(self, peer: str) -> None:
        """Give `peer`'s place away: it has hung up."""
        self._places.pop(peer, None)

    def connect(self, source: str, address: str, target: str, now: float) -> Circuit:
        """Open a circuit; `end` ends it. Raises `NotRelayed`."""
        place = self._places.get(target)
        if place is None or place.expires <= now:
            raise NotRelayed(Status.NO_RESERVATION, f"{target} has no place here")
        terms = self.terms
        if (
            len(self._circuits) >= terms.circuits
            or self._to[target] >= terms.circuits_to_peer
            or self._from[source] >= terms.circuits_from_peer
            or (address and self._from_address[address] >= terms.circuits_from_address)
        ):
            raise NotRelayed(Status.RESOURCE_LIMIT_EXCEEDED, "too many circuits are open")
        circuit = Circuit(source, address, target, terms.circuit_bytes)
        self._circuits.add(circuit)
        self._to[target] += 1
        self._from[source] += 1
        self._from_address[address] += 1
        return circuit

    def end(self, circuit: Circuit) -> None:
        """Count `circuit` no more."""
        self._circuits.discard(circuit)
        for counter, name in (
            (self._to, circuit.target),
            (self._from, circuit.source),
            (self._from_address, circuit.address),
        ):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]
