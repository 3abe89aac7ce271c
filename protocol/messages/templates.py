"""Services that others may run, for a share of what they pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import Hash, TemplateId


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterTemplate:
    """Makes the sender the author of a template."""

    TAG: ClassVar[int] = 57
    content: Hash
    """Of the file that is offered; where it is found is no matter of the ledger."""
    title: str
    royalty_basis_points: int
    """Of what a lease that names the template pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkTemplate:
    """Makes the sender the author of a template that is made of another, whose royalties go on."""

    TAG: ClassVar[int] = 58
    parent: TemplateId
    content: Hash
    title: str
    royalty_basis_points: int
    """Of the sender, on top of those that are inherited."""
