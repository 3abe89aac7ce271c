"""Spending for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.messages.grants import Scope
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingGranted:
    TAG: ClassVar[int] = 178
    granter: PublicKey
    grantee: PublicKey
    limit: MicroCredits
    scope: Scope
    expires_at: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSpent:
    """A deposit was paid by a grant, or came back to it; `spent` of its limit are out now."""

    TAG: ClassVar[int] = 179
    granter: PublicKey
    grantee: PublicKey
    spent: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantEnded:
    """It was revoked, or `expired`."""

    TAG: ClassVar[int] = 180
    granter: PublicKey
    grantee: PublicKey
    expired: bool
