"""What the issuer that genesis names may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import MicroCredits, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """Makes credits and gives them to `to`."""

    TAG: ClassVar[int] = 52
    to: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """Destroys credits of the sender."""

    TAG: ClassVar[int] = 53
    amount: MicroCredits
