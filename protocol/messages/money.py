"""Money: moving it, and making it where genesis allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import MicroCredits, MicroStake, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Moves credits from the sender to `to`."""

    TAG: ClassVar[int] = 30
    to: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Faucet:
    """Mints credits and stake to the sender, on chains whose genesis allows it; such a transaction is free."""

    TAG: ClassVar[int] = 31
    credits: MicroCredits
    stake: MicroStake
