"""What would draw bids, as people and programs are told it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.support.workloads import SDL, key
from tests.unit.protocol.selection.test_solver import dear, decline, fewer, offer

from fondaco.node.cli import relaxations
from fondaco.node.tenant.relaxing import Shortfall, TooFewBids, shortfall
from fondaco.protocol import addresses, sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Change, CounterOffer, Decline, Reason
from fondaco.protocol.scalars import MicroCredits, PublicKey
from fondaco.protocol.sdl.edits import Source
from fondaco.protocol.selection.solver import Asked

TEN = SDL.replace("count: 2", "count: 10").replace("amount: 1000", "amount: 100")
REFUSAL = Refused("bids.none", "nobody serves group 'west'", hint="ask for less")
REGION = Reason(dimension="attribute region", asked="us", available="eu by its own word")


def short(*declines: Decline, bids: dict[int, int] | None = None, wanted: int = 1, text: str = TEN) -> Shortfall:
    source = Source(text)
    stack = sdl.parse(text)
    (group,) = stack.groups({})
    return shortfall(
        source,
        Asked(group=group, reclamation_window_ms=stack.reclamation_ms, rates=source.rates("west")),
        {key(number): MicroCredits(price) for number, price in (bids or {}).items()},
        {one.provider: one for one in declines},
        wanted=wanted,
    )


def told(*shortfalls: Shortfall) -> list[str]:
    return list(relaxations.table(TooFewBids(REFUSAL, shortfalls), Path("app.yaml")))


def name(number: int) -> str:
    return addresses.encode(key(number))[:16]


def test_people_see_the_price_the_edits_and_who_would_bid() -> None:
    region = replace(decline(3), reasons=(REGION,))
    found = short(decline(1, fewer(4, 350_000)), decline(2, dear(710_000)), region)
    assert told(found) == [
        "what would draw bids on group west, now at most 0.6 credits/h:",
        "  1. at 0.35 credits/h, nothing more",
        "       app.yaml:24:19: profiles.placement.west.pricing.small.amount: 100 -> 145.834",
        "       app.yaml:29:14: deployment.web.west.count: 10 -> 4",
        f"       {name(1)} at 0.35 credits/h: offers just that",
        "  2. at 0.71 credits/h, 0.11 credits/h more",
        "       app.yaml:24:19: profiles.placement.west.pricing.small.amount: 100 -> 118.334",
        f"       {name(2)} at 0.71 credits/h: offers just that",
        "  others name nothing they would serve; this would also have to change:",
        f"       {name(3)}: attribute region: asked us, available eu by its own word",
    ]


def test_programs_get_the_same_and_an_error_says_the_best_edits() -> None:
    error = TooFewBids(REFUSAL, (short(decline(1, fewer(4, 100_000)), decline(2, fewer(8, 400_000)), wanted=2),))
    assert error.hint == (
        "profiles.placement.west.pricing.small.amount: 100 -> 166.667; deployment.web.west.count: 10 -> 4"
    )
    plain = json.loads(json.dumps(relaxations.plain(error)))
    assert (plain["error"], plain["message"]) == ("bids.none", "nobody serves group 'west'")
    (group,) = plain["groups"]
    assert (group["bids"], group["reached"], group["complete"], group["unmoved"]) == (0, 2, True, [])
    (best,) = group["proposals"]
    assert [one["promised"] for one in best["draws"]] == [True, False]
    assert best["edits"][1] == {
        "path": "deployment.web.west.count",
        "line": 29,
        "column": 14,
        "found": "10",
        "wanted": "4",
    }


def test_what_no_file_can_say_is_not_proposed() -> None:
    text = TEN.replace("storage:\n          size: 1Gi", "storage:\n          size: 1Gi\n        gpu: GPU").replace(
        "GPU", "{units: 1, attributes: {vendor: {nvidia: [{model: h100}]}}}"
    )
    foreign = offer(Change.GPU_MODEL, 1, 100_000, subject="vendor/amd/model/mi300")
    found = short(decline(1, foreign, fewer(4, 100, unit=7)), text=text)
    assert (found.proposals, [one.provider for one in found.unmoved]) == ((), [key(1)])
    assert TooFewBids(REFUSAL, (found,)).hint == "ask for less"
    ours = offer(Change.GPU_MODEL, 1, 100_000, subject="vendor/nvidia/model/t4")
    assert len(short(decline(1, foreign, ours), text=text).proposals) == 1


def test_a_long_answer_is_cut_and_says_so() -> None:
    crowd = [decline(number) for number in range(1, 12)]
    lines = told(replace(short(*crowd), complete=False))
    assert lines[0] == "nothing that providers said would draw more bids on group west"
    assert lines[1] == "  more was offered than has been tried"
    assert lines[-1] == "       and 3 more"


def test_nothing_is_proposed_that_was_offered_for_what_is_not_asked() -> None:
    strange: list[CounterOffer] = [
        offer(Change.VOLUME, 10**9, 5, subject="no such volume"),
        offer(Change.WINDOW, 5, 5, unit=0),
        offer(Change.WINDOW, 5, 5, unit=1),
    ]
    providers: list[PublicKey] = [one.provider for one in short(decline(1, *strange)).unmoved]
    assert providers == [key(1)]
