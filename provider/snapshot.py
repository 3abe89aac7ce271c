"""Reservations as plain values, for the disk and back."""

from __future__ import annotations

from typing import Any

from fondaco.protocol import codec, matching
from fondaco.protocol.errors import Malformed
from fondaco.protocol.resources import ResourceUnit
from fondaco.protocol.scalars import LeaseId, Millis, PublicKey
from fondaco.provider.capacity import Allocation, Load, Share
from fondaco.provider.inventory import Reservation

Plain = Any
"""None, int, str, bytes, list: what the canonical codec packs."""


def to_plain(reservations: tuple[Reservation, ...]) -> list[Plain]:
    """Plain values that `codec.pack` (or JSON, but for the bytes) takes."""
    return [
        [
            one.id,
            one.tenant,
            one.lease,
            one.expires_at,
            [codec.encode(unit) for unit in one.allocation.units],
            [[share.node, share.unit, _load_to_plain(share.load)] for share in one.allocation.shares],
        ]
        for one in reservations
    ]


def from_plain(plain: Plain) -> tuple[Reservation, ...]:
    """The way back.  Raises `Malformed` `snapshot.malformed` on anything `to_plain` did not write."""
    try:
        return tuple(_reservation(*entry) for entry in plain)
    except (TypeError, ValueError) as error:
        raise Malformed("snapshot.malformed", f"not a snapshot of reservations: {error}") from None


def _reservation(
    name: bytes, tenant: bytes, lease: bytes | None, expires_at: int, units: Plain, shares: Plain
) -> Reservation:
    return Reservation(
        id=bytes(name),
        tenant=PublicKey(bytes(tenant)),
        lease=None if lease is None else LeaseId(bytes(lease)),
        expires_at=Millis(int(expires_at)),
        allocation=Allocation(
            units=tuple(codec.decode(unit, ResourceUnit) for unit in units),
            shares=tuple(Share(node=node, unit=unit, load=_load(*load)) for node, unit, load in shares),
        ),
    )


def _load_to_plain(load: Load) -> Plain:
    return [
        load.cpu_milli,
        load.memory_bytes,
        [[model.key, units] for model, units in sorted(load.gpus.items())],
        [[name, size] for name, size in sorted(load.storage_bytes.items())],
    ]


def _load(cpu_milli: int, memory_bytes: int, gpus: Plain, storage: Plain) -> Load:
    return Load(
        cpu_milli=int(cpu_milli),
        memory_bytes=int(memory_bytes),
        gpus={_model(key): int(units) for key, units in gpus},
        storage_bytes={str(name): int(size) for name, size in storage},
    )


def _model(key: str) -> matching.GpuModel:
    model = matching.gpu_model(key)
    if model is None:
        raise ValueError(f"{key!r} is no GPU model")
    return model
