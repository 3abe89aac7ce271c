"""Templates and their authors' royalties: inherited, bounded, and the same however often a lease pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import COMMITMENT, FREE, HOUR, RICH, Actor, Draft, World, codes, of_kind

from fondaco.consensus.ledger.royalties import shares
from fondaco.consensus.ledger.templates import template_of
from fondaco.protocol import limits
from fondaco.protocol.events import Paid, RoyaltyPaid, TemplateRegistered
from fondaco.protocol.records import Royalty, Template, template_id
from fondaco.protocol.scalars import INT_MAX, Hash, PublicKey, TemplateId

AUTHORS = ("ann", "ben", "cat", "dan", "eve", "fay")


@dataclass
class Shop:
    """Authors, a tenant and a provider, on a chain without fees."""

    world: World

    def __init__(self, **params: Any) -> None:
        self.world = World(*AUTHORS, "tess", "paul", **FREE | params)
        self.authors = self.world.actors(*AUTHORS)
        self.tess, self.paul = self.world.actors("tess", "paul")
        self.books = Bookkeeper(self.world)
        self.world.block(self.paul.registers())

    def chain(self, *points: int) -> list[TemplateId]:
        """Fork one of the other, each by the next author."""
        made: list[TemplateId] = []
        for author, royalty in zip(self.authors, points, strict=False):
            draft = author.forks(made[-1], royalty) if made else author.registers_template(royalty)
            assert self.world.code(draft) == ""
            made.append(author.template())
        return made

    def serve(self, price: int, *, deposit: int, template: TemplateId | None) -> Draft:
        draft = self.tess.leases((self.paul, price), deposit=deposit, template=template)
        self.world.block(draft)
        self.world.block(self.paul.activates(*draft.leases, receipt_of=self.tess))
        return draft

    def earned(self, *who: Actor) -> list[int]:
        return [actor.credits - RICH for actor in who]

    def template(self, template: TemplateId) -> Template:
        return template_of(self.world.ledger.state(), template)


def test_an_author_is_paid_as_the_provider_is() -> None:
    shop = Shop()
    ann = shop.authors[0]
    (template,) = shop.chain(1_000)
    draft = shop.serve(3_600_000, deposit=100_000, template=template)
    execution = shop.world.block(shop.paul.withdraws(draft.lease), after_ms=10_000)
    assert shop.earned(ann, shop.paul) == [1_000, 9_000]
    assert shop.world.lease(draft.lease).paid == 10_000
    (paid,), (royalty,) = of_kind(execution.events, Paid), of_kind(execution.events, RoyaltyPaid)
    assert (paid.amount, royalty.amount, royalty.author, royalty.template) == (10_000, 1_000, ann.key, template)
    assert shop.world.funds(draft.deployment) == 90_000, "the tenant pays the price, and no more"
    shop.books.count()


def test_a_lease_without_a_template_pays_its_provider_alone() -> None:
    shop = Shop()
    shop.chain(1_000)
    draft = shop.serve(3_600_000, deposit=100_000, template=None)
    shop.world.block(shop.paul.withdraws(draft.lease), after_ms=10_000)
    assert shop.earned(shop.authors[0], shop.paul) == [0, 10_000]


def test_a_fork_pays_those_it_was_made_of() -> None:
    shop = Shop()
    *_, last = shop.chain(1_000, 0, 600, 400)
    draft = shop.serve(3_600_000, deposit=1_000_000, template=last)
    shop.world.block(shop.paul.withdraws(draft.lease), after_ms=100_000)
    assert shop.earned(*shop.authors[:4], shop.paul) == [10_000, 0, 6_000, 4_000, 80_000]
    assert [one.basis_points for one in shop.template(last).royalties] == [1_000, 0, 600, 400]
    shop.books.count()


def test_the_last_money_of_a_dry_escrow_is_shared_with_the_authors_too() -> None:
    shop = Shop()
    (template,) = shop.chain(2_000)
    draft = shop.serve(3_600_000, deposit=10_001, template=template)
    shop.world.block(after_ms=HOUR)
    assert shop.earned(shop.authors[0], shop.paul) == [2_000, 8_001]
    assert shop.world.funds(draft.deployment) == 0
    shop.books.count()


def test_paying_often_and_paying_once_divide_alike() -> None:
    often, once = Shop(), Shop()
    for shop, steps in ((often, [7] * 100 + [69_300]), (once, [70_000])):
        *_, last = shop.chain(333, 77, 1)
        draft = shop.serve(3_600_000, deposit=1_000_000, template=last)
        for step in steps:
            shop.world.block(shop.paul.withdraws(draft.lease), after_ms=step)
    assert often.earned(*often.authors, often.paul) == once.earned(*once.authors, once.paul)


POINTS = st.lists(st.integers(0, 2_000), min_size=1, max_size=5).map(
    lambda found: [point * 2_000 // max(2_000, sum(found)) for point in found]
)


@given(points=POINTS, payments=st.lists(st.integers(0, 10**6) | st.integers(0, 20), max_size=30))
def test_nobody_ever_gives_anything_back(points: list[int], payments: list[int]) -> None:
    royalties = [
        Royalty(author=PublicKey(bytes((place,)) * 32), basis_points=one) for place, one in enumerate(points)
    ]
    paid, before, provider = 0, shares(0, royalties), 0
    assert not any(before)
    for amount in payments:
        paid += amount
        after = shares(paid, royalties)
        assert all(has >= had for has, had in zip(after, before, strict=True))
        assert sum(after) == paid * sum(points) // 10_000
        assert paid - sum(after) >= provider
        for has, point in zip(after, points, strict=True):
            assert abs(has - paid * point / 10_000) <= max(1, sum(points))
        before, provider = after, paid - sum(after)


def test_templates_are_told_and_kept() -> None:
    shop = Shop()
    ann, ben = shop.authors[:2]
    execution = shop.world.block(ann.registers_template(500, title="an inn"))
    assert of_kind(execution.events, TemplateRegistered) == [
        TemplateRegistered(
            template=ann.template(),
            author=ann.key,
            content=COMMITMENT,
            title="an inn",
            parent=None,
            royalty_basis_points=500,
        )
    ]
    execution = shop.world.block(ben.forks(ann.template(), 100, title="a better inn"))
    (told,) = of_kind(execution.events, TemplateRegistered)
    assert (told.parent, told.royalty_basis_points) == (ann.template(), 100)
    fork = shop.template(ben.template())
    assert (fork.author, fork.parent, fork.basis_points, fork.title) == (
        ben.key,
        ann.template(),
        600,
        "a better inn",
    )


def test_two_authors_of_the_same_content_do_not_stand_in_each_others_way() -> None:
    shop = Shop()
    ann, ben = shop.authors[:2]
    assert codes(shop.world.block(ann.registers_template(1), ben.registers_template(2)).events) == ["", ""]
    assert shop.world.code(ann.registers_template(3)) == "template.exists"
    assert shop.world.code(ann.forks(ben.template(), 3)) == "template.exists"
    assert template_id(ann.key, COMMITMENT) != template_id(ben.key, COMMITMENT)


def test_royalties_of_a_whole_line_are_bounded() -> None:
    shop = Shop()
    ann, ben = shop.authors[:2]
    assert shop.world.code(ann.registers_template(2_001)) == "template.royalty"
    assert shop.world.code(ann.registers_template(INT_MAX)) == "template.royalty"
    shop.chain(1_999)
    assert shop.world.code(ben.forks(ann.template(), 2)) == "template.royalty"
    assert shop.world.code(ben.forks(ann.template(), 1)) == ""


def test_a_line_of_forks_is_bounded() -> None:
    shop = Shop()
    made = shop.chain(1, 1, 1, 1, 1)
    assert len(made) == limits.TEMPLATE_FORKS + 1
    assert shop.world.code(shop.authors[5].forks(made[-1], 0)) == "template.depth"
    assert shop.world.code(shop.authors[5].forks(made[-2], 0)) == ""


def test_what_else_is_refused() -> None:
    shop = Shop()
    ann = shop.authors[0]
    nowhere = TemplateId(bytes(32))
    assert shop.world.code(ann.forks(nowhere, 1)) == "template.unknown"
    assert shop.world.code(ann.registers_template(1, title="")) == "template.title"
    assert shop.world.code(ann.registers_template(1, title="é" * 65)) == "template.title"
    assert shop.world.code(ann.registers_template(1, title="é" * 64)) == ""
    lease = shop.tess.leases((shop.paul, 1_000), deposit=1_000, template=nowhere)
    assert shop.world.code(lease) == "template.unknown"


@pytest.mark.parametrize("author_is", ["tess", "paul"])
def test_tenant_and_provider_may_be_the_author(author_is: str) -> None:
    shop = Shop()
    (author,) = shop.world.actors(author_is)
    shop.world.block(author.registers_template(1_000, content=Hash(b"x" * 32)))
    draft = shop.serve(3_600_000, deposit=100_000, template=author.template(Hash(b"x" * 32)))
    shop.world.block(shop.paul.withdraws(draft.lease), after_ms=10_000)
    gets = {"tess": [-100_000 + 1_000, 9_000], "paul": [-100_000, 10_000]}
    assert shop.earned(shop.tess, shop.paul) == gets[author_is]
    shop.books.count()
