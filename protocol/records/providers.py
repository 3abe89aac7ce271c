"""Who offers compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import MicroStake, Millis, PublicKey, SealingKey


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
class SignsOfLife:
    """How long a provider has been there, as its signs of life show: a clock that stands while it is silent.

    `consensus.ledger.alive` reads it. It goes from one stretch without a gap to the next; the newest one and the
    end of the one before are kept.
    """

    TAG: ClassVar[int] = 166
    alive_at: Millis
    """The newest sign."""
    covered_to: Millis
    """End of the newest stretch, if no further sign comes."""
    resumed_at: Millis
    """Its beginning."""
    lapsed_at: Millis
    """End of the stretch before; `resumed_at` where there was none."""
    counted_ms: Millis
    """What the clock showed at `resumed_at`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """A provider takes no new leases, until it is gone or registers anew."""

    TAG: ClassVar[int] = 202
    since: Millis


def key_alive(provider: PublicKey) -> bytes:
    return b"alive/" + provider


def key_provider(provider: PublicKey) -> bytes:
    return b"provider/" + provider


def key_retirement(provider: PublicKey) -> bytes:
    return b"retiring/" + provider
