"""Who may spend whose credits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.messages.grants import Scope
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingGrant:
    """What `grantee` may pay into escrows from the account of `granter`."""

    TAG: ClassVar[int] = 203
    granter: PublicKey
    grantee: PublicKey
    limit: MicroCredits
    spent: MicroCredits
    """Of the limit, less what was refunded since."""
    scope: Scope
    expires_at: Millis


def key_grant(granter: PublicKey, grantee: PublicKey) -> bytes:
    """Ordered by granter, so that all that one gave is found together."""
    return b"grant/" + granter + grantee


def key_grant_expiry(expires_at: Millis, granter: PublicKey, grantee: PublicKey) -> bytes:
    """Ordered by time, so that grants are forgotten when they have expired."""
    return b"grant-expiry/" + expires_at.to_bytes(8, "big") + granter + grantee
