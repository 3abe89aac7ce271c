"""Templates, and what their authors earn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import Hash, LeaseId, MicroCredits, PublicKey, TemplateId


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRegistered:
    TAG: ClassVar[int] = 190
    template: TemplateId
    author: PublicKey
    content: Hash
    title: str
    parent: TemplateId | None
    royalty_basis_points: int
    """Of this author alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoyaltyPaid:
    """What of the payment told just before went on to an author of the deployment's template."""

    TAG: ClassVar[int] = 191
    lease: LeaseId
    template: TemplateId
    author: PublicKey
    amount: MicroCredits
