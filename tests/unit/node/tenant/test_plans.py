"""Taking another bid than the best one."""

from __future__ import annotations

import pytest
from tests.support.chains import Town
from tests.support.ledger import a_group

from fondaco.node.tenant.ordering import Answers, Draft
from fondaco.node.tenant.plans import Plan
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import order_id
from fondaco.protocol.scalars import MicroCredits, Millis
from fondaco.protocol.selection import candidate, rank

TOWN = Town("tenant", "paul", "petra", "dear")


def plan(groups: int = 1) -> Plan:
    """Paul is cheaper than Petra on every group, and a third one is too dear."""
    tenant, paul, petra, dear = TOWN.actors("tenant", "paul", "petra", "dear")
    asked = tuple(a_group(f"g{number}", price=1_000) for number in range(groups))
    signed = tenant.order(*asked, deposit=MicroCredits(10_000))
    rankings = []
    for number, group in enumerate(asked):
        bids = [who.bid(signed, price, number) for who, price in ((paul, 800), (petra, 900), (dear, 2_000))]
        candidates = [candidate(TOWN.chain, bid) for bid in bids]
        rankings.append(rank(group, candidates, now=Millis(min(one.expires_at for one in candidates) - 1)))
    draft = Draft(id=order_id(TOWN.chain, signed.order), signed=signed, manifests=(), salts=())
    return Plan(draft=draft, answers=Answers(), rankings=tuple(rankings))


def providers(found: Plan) -> list[str]:
    names = {actor.key: actor.name for actor in TOWN.actors("paul", "petra", "dear")}
    return [names[ranking.best.provider] for ranking in found.rankings if ranking.best]


def bid_of(found: Plan, group: int, provider: str) -> str:
    key = TOWN.actors(provider)[0].key
    ranking = found.rankings[group]
    every = [one.candidate for one in ranking.ranked] + [one.candidate for one in ranking.set_aside]
    return next(one.id.hex() for one in every if one.provider == key)


def test_a_bid_is_taken_by_the_start_of_its_id_for_its_group_alone() -> None:
    best = plan(groups=2)
    assert (providers(best), best.price_per_hour) == (["paul", "paul"], 1_600)
    other = best.taking(bid_of(best, 1, "petra")[:10])
    assert (providers(other), other.price_per_hour) == (["paul", "petra"], 1_700)
    assert [len(ranking.ranked) for ranking in other.rankings] == [2, 2], "the others stay behind it"
    assert [signed.bid.provider for signed in other.bids()] == [one.key for one in TOWN.actors("paul", "petra")]


def test_a_provider_is_taken_for_every_group_it_bids_on() -> None:
    address = addresses.encode(TOWN.actors("petra")[0].key)
    assert providers(plan(groups=2).taking(address[:20])) == ["petra", "petra"]


@pytest.mark.parametrize(
    ("text", "code"), [("", "bids.ambiguous"), ("fond1", "bids.ambiguous"), ("nobody", "bids.unknown")]
)
def test_what_names_no_bid_or_several_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        plan().taking(text)
    assert refusal.value.code == code


def test_a_bid_that_cannot_be_taken_says_why() -> None:
    best = plan()
    with pytest.raises(Refused, match="is above the maximum") as refusal:
        best.taking(bid_of(best, 0, "dear"))
    assert refusal.value.code == "bids.unknown"
