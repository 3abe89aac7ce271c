"""Letting others spend one's credits on deployments."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey


class Scope(enum.IntEnum):
    """What a spending grant may pay."""

    OPEN = 1
    """The deposit of a new deployment of the grantee's."""
    DEPOSIT = 2
    """More money for a deployment that there is, whoever's it is."""
    ANY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSpending:
    """Lets `grantee` pay into escrows from the sender's account; replaces what it was granted before."""

    TAG: ClassVar[int] = 48
    grantee: PublicKey
    limit: MicroCredits
    """What may be out at a time: refunds make room again."""
    scope: Scope
    expires_at: Millis
    """The last block time at which it can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeSpending:
    """Ends a grant; what was paid by it stays in its escrows, and comes back to the granter."""

    TAG: ClassVar[int] = 49
    grantee: PublicKey
