"""Services that others may run, and who is paid for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import Hash, Millis, PublicKey, TemplateId
from fondaco.protocol.signing import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Royalty:
    author: PublicKey
    basis_points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template never changes: whoever leases with it knows what it costs."""

    TAG: ClassVar[int] = 215
    id: TemplateId
    content: Hash
    title: str
    parent: TemplateId | None
    royalties: tuple[Royalty, ...]
    """Of the first author of all, then of who forked it, and so on; the last is this template's author's."""
    registered_at: Millis

    @property
    def author(self) -> PublicKey:
        return self.royalties[-1].author

    @property
    def basis_points(self) -> int:
        """What all its authors get of a payment."""
        return sum(one.basis_points for one in self.royalties)


def template_id(author: PublicKey, content: Hash) -> TemplateId:
    """By author too, so that nobody can take another's place by being the first to name a file."""
    return TemplateId(sha256(b"fondaco/template" + author + content))


def key_template(template: TemplateId) -> bytes:
    return b"template/" + template
