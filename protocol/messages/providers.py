"""What providers say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import MicroStake, SealingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The provider that sends it is there: its leases go on to accrue."""

    TAG: ClassVar[int] = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class Retire:
    """The sender stops being a provider; its bond comes back once none of its leases is alive."""

    TAG: ClassVar[int] = 45
    reclaim: bool
    """End its leases first, with the notice that was promised, so many for each message. False: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterProvider:
    """Makes the sender a provider, or replaces what it said of itself."""

    TAG: ClassVar[int] = 32
    attributes: tuple[Attribute, ...]
    peer: str
    """The libp2p peer id that serves its channel."""
    addresses: tuple[str, ...]
    sealing_key: SealingKey
    """Manifests are sealed to it."""
    bond: MicroStake
    """The whole bond that shall stand behind the provider; the difference is taken from its stake."""
