"""From an SDL file to chosen bids, over real nodes: who is heard, how long one waits, what is passed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import decline_by, stranger
from tests.support.network import until
from tests.support.order_markets import (
    Answer,
    Market,
    market,
    stack,
    twice,
    two_groups,
)

from fondaco.consensus.ledger.escrow import HOUR_MS
from fondaco.node.tenant import bounds, ordering, relaxing
from fondaco.node.tenant.choosing import Choice, choice
from fondaco.node.tenant.ordering import Answers, Draft
from fondaco.node.tenant.plans import describe
from fondaco.protocol import codec, manifest
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.market import Change, CounterOffer, check_order
from fondaco.protocol.scalars import GroupIndex, MicroCredits, OrderId, Signature
from fondaco.protocol.selection import Ranking


async def chosen(here: Market, order: Draft, answers: Answers, select: Choice) -> tuple[Ranking, ...]:
    """Every group's bids, ranked. Raises `Refused` where one has none to take."""
    rankings = await ordering.choose(here.light, order, answers, choice=select)
    refusal = ordering.lacking(order, answers, rankings)
    if refusal is not None:
        raise refusal
    return rankings


async def test_a_draft_is_an_order_that_every_node_admits(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        assert check_order(here.town.chain, order.signed) == order.id
        assert order.groups[0].name == "anywhere"
        commitment = manifest.commitment(order.salts[0], order.manifests[0])
        assert order.signed.order.commitments == (commitment,)
        assert here.draft().salts != order.salts, "drawn anew each time"
        assert here.nodes[0].book.add_order(order.signed) == order.id


async def test_a_deposit_covers_an_hour_unless_it_is_given(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft().signed.order
        assert order.deposit * 3_600_000 >= order.groups[0].max_price_per_hour * HOUR_MS
        assert here.draft(deposit=123).signed.order.deposit == 123
        params = replace(here.town.genesis.params, min_deposit=MicroCredits(10**9))
        least = ordering.draft(here.light, here.tenant.signer, stack(), params, deposit=None)
        assert least.signed.order.deposit == 10**9


async def test_one_stops_waiting_as_soon_as_every_provider_has_spoken(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        bid, decline = here.bid(here.paul, order, 900), decline_by(here.petra, order.id)
        answers = await here.collect(order, bid, decline, window_ms=60_000, patience_ms=60_000)
        assert answers.bids == {0: {here.paul.key: bid}}
        assert answers.declines == {0: {here.petra.key: decline}}
        assert (answers.count_bids(), answers.count_declines()) == (1, 1)
        assert here.heard == [bid, decline]


async def test_with_a_bid_for_every_group_one_waits_for_the_window_only(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        began = trio.current_time()
        answers = await here.collect(order, here.bid(here.paul, order, 900), window_ms=300, patience_ms=60_000)
        assert 0.25 < trio.current_time() - began < 10
        assert answers.count_bids() == 1


async def test_without_a_bid_patience_ends(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        began = trio.current_time()
        answers = await here.collect(order, decline_by(here.paul, order.id), window_ms=0, patience_ms=300)
        assert trio.current_time() - began > 0.25
        assert answers.count_bids() == 0
        with pytest.raises(Refused) as refusal:
            await chosen(here, order, answers, choice("cheapest"))
        assert refusal.value.code == "bids.none"
        assert "cpu: asked 8, available 3" in refusal.value.message
        assert "raise the price" in refusal.value.hint
        dear = CounterOffer(change=Change.PRICE, unit=0, subject="", value=9, price_per_hour=MicroCredits(9))
        fewer = CounterOffer(change=Change.REPLICAS, unit=1, subject="", value=2, price_per_hour=MicroCredits(7))
        order = here.draft()
        decline = decline_by(here.paul, order.id, counter_offers=(dear, fewer))
        assert "it would serve as asked, at 9 ucredit/h; or unit 1 with 2 replicas" in describe(decline)
        answers = await here.collect(order, decline, window_ms=0, patience_ms=300)
        with pytest.raises(Refused) as refusal:
            await chosen(here, order, answers, choice("cheapest"))
        assert "would serve unit 1 with 2 replicas, at 7 ucredit/h" in refusal.value.hint


async def test_silence_is_told_apart_from_refusal(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        answers = await here.collect(order, patience_ms=100)
        with pytest.raises(Refused) as refusal:
            await chosen(here, order, answers, choice("cheapest"))
        assert refusal.value.hint == "are providers running?"


async def test_a_group_without_a_bid_keeps_one_waiting_though_others_have_theirs(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft(two_groups())
        assert len(order.groups) == 2
        first = here.bid(here.paul, order, 900, group=0)
        answers = await here.collect(order, first, window_ms=0, patience_ms=400)
        assert not answers.complete(2, {here.paul.key})
        with pytest.raises(Refused) as refusal:
            await chosen(here, order, answers, choice("cheapest"))
        assert order.groups[1].name in refusal.value.message
    (tmp_path / "again").mkdir()
    async with market(tmp_path / "again") as here:
        order = here.draft(two_groups())
        bids = [here.bid(here.paul, order, 900, group=0), here.bid(here.petra, order, 800, group=1)]
        answers = await here.collect(order, *bids)
        rankings = await chosen(here, order, answers, choice("cheapest"))
        assert [ranking.best.signed for ranking in rankings if ranking.best] == bids


async def test_who_wants_two_bids_waits_for_the_second_and_hears_what_would_draw_it(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft(two_groups())
        price = MicroCredits(70_000)
        dear = CounterOffer(change=Change.PRICE, unit=0, subject="", value=price, price_per_hour=price)
        said = [
            here.bid(here.paul, order, 900, group=0),
            here.bid(here.petra, order, 800, group=0),
            here.bid(here.paul, order, 900, group=1),
        ]
        began = trio.current_time()
        answers = await here.collect(order, *said, window_ms=0, patience_ms=400, wanted=2)
        assert trio.current_time() - began > 0.3, "one group has one bid only"
        answers.declines[GroupIndex(1)] = {
            here.petra.key: decline_by(here.petra, order.id, group=1, counter_offers=(dear,))
        }
        rankings = await ordering.choose(here.light, order, answers, choice=choice("cheapest"))
        assert ordering.lacking(order, answers, rankings) is None
        refusal = ordering.lacking(order, answers, rankings, wanted=2)
        assert refusal is not None
        assert (refusal.code, "1 of 2 bids wanted" in refusal.message) == ("bids.few", True)
        error = relaxing.too_few(refusal, twice(), order, answers, rankings, wanted=2)
        (short,) = error.shortfalls
        assert (short.group.name, short.bids, short.reached) == (order.groups[1].name, 1, 2)
        assert error.hint == f"profiles.placement.{short.group.name}.pricing.web.amount: 100 -> 116.667"
        assert short.proposals[0].relaxation.extra_per_hour == 70_000 - 900


async def test_the_cheapest_bid_and_a_providers_latest_word_are_chosen(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        dear, cheap = here.bid(here.paul, order, 900), here.bid(here.petra, order, 800)
        cheaper = here.bid(here.paul, order, 700, serial=1)

        async def improve() -> None:
            while not here.heard:
                await trio.sleep(0.005)
            here.nodes[0].book.add_answer(cheaper)

        answers = await here.collect(order, dear, improve, window_ms=300)
        assert answers.bids[GroupIndex(0)][here.paul.key] in (dear, cheaper)
        answers.bids[GroupIndex(0)] = {here.paul.key: cheaper, here.petra.key: cheap}
        (ranking,) = await chosen(here, order, answers, choice("cheapest"))
        assert ranking.best is not None
        assert ranking.best.signed == cheaper
        (ranking,) = await chosen(here, order, answers, choice("spread", "attestations = 0"))
        assert [one.candidate.provider for one in ranking.ranked] == [here.paul.key, here.petra.key]
        with pytest.raises(Refused, match="region = eu-\\*: not known") as refusal:
            await chosen(here, order, answers, choice("spread", "region = eu-*"))
        assert refusal.value.code == "bids.none"


async def test_bids_that_cannot_be_taken_are_given_as_reasons(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        order = here.draft()
        too_dear = here.bid(here.paul, order, order.groups[0].max_price_per_hour + 1)
        answers = await here.collect(order, too_dear)
        with pytest.raises(Refused) as refusal:
            await chosen(here, order, answers, choice("cheapest"))
        assert "above the maximum" in refusal.value.message


class Told:
    """A node that passes on what it is given, whether or not any book would."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.ends = False

    async def watch_order(self, peer: str, params: Any) -> Any:
        for one in self.answers:
            yield codec.encode(one)
        if not self.ends:
            await trio.sleep_forever()


LIES: dict[str, Callable[[Market, Draft], Answer]] = {
    "of another order": lambda here, order: here.bid(here.paul, here.draft(), 1),
    "a forged bid": lambda here, order: replace(here.bid(here.paul, order, 1), signature=Signature(bytes(64))),
    "a forged decline": lambda here, order: replace(
        decline_by(here.petra, order.id), signature=Signature(bytes(64))
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_node_that_passes_on_what_no_book_admits_is_left_out_and_others_are_heard(
    tmp_path: Path, lie: str
) -> None:
    liar, honest = Told(), Told()
    async with market(tmp_path, liar=liar, honest=honest) as here:
        order = here.draft()
        good, decline = here.bid(here.paul, order, 900, serial=2), decline_by(here.petra, order.id)
        liar.answers = [LIES[lie](here, order)]
        honest.answers = [good, good, here.bid(here.paul, order, 950, serial=1), decline]
        answers = await here.collect(order, window_ms=60_000, patience_ms=60_000)
        assert answers.bids == {0: {here.paul.key: good}}
        assert list(answers.declines[GroupIndex(0)]) == [here.petra.key]
        assert here.heard == [good, decline]
        assert here.asked.left_out() == [1]


async def test_answers_of_strangers_are_passed_over_and_many_of_them_are_the_nodes_fault(tmp_path: Path) -> None:
    liar, honest = Told(), Told()
    async with market(tmp_path, liar=liar, honest=honest) as here:
        order = here.draft()
        good, decline = here.bid(here.paul, order, 900), decline_by(here.petra, order.id)
        made_up = [here.bid(stranger(here.town, str(number)), order, 1) for number in range(30)]
        liar.answers = [*made_up[:7], decline_by(here.petra, order.id, group=1), good, decline]
        answers = await here.collect(order, window_ms=60_000, patience_ms=60_000)
        assert answers.bids == {0: {here.paul.key: good}}
        assert here.asked.left_out() == [], "it may be a block ahead"
        honest.answers = [good, decline]
        liar.answers = [*made_up, good, decline]
        assert (await here.collect(order, window_ms=60_000, patience_ms=60_000)).bids == answers.bids
        await until(lambda: here.asked.left_out() == [1])
        assert "light.strangers" in here.light.faults[here.asked.peer(1)]


async def test_who_tells_more_than_a_book_holds_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "ANSWERS_PER_NODE", 20)
    liar, honest = Told(), Told()
    async with market(tmp_path, liar=liar, honest=honest) as here:
        order = here.draft()
        liar.answers = [here.bid(here.paul, order, 900)] * 21
        honest.answers = [here.bid(here.petra, order, 800)]
        answers = await here.collect(order, window_ms=60_000, patience_ms=60_000)
        assert answers.count_bids() == 2
        await until(lambda: here.asked.left_out() == [1])
        assert "light.flood" in here.light.faults[here.asked.peer(1)]


async def test_when_every_node_stops_telling_it_is_said_at_once(tmp_path: Path) -> None:
    told = Told()
    told.ends = True
    async with market(tmp_path, watch_order=told.watch_order) as here:
        with pytest.raises(Unreachable) as error:
            await ordering.collect(
                here.light, here.draft(), window_ms=0, patience_ms=60_000, on_answer=here.heard.append
            )
        assert error.value.code == "order.unwatched"
        order = here.draft()
        told.answers.append(here.bid(here.paul, order, 900))
        answers = await here.collect(order, window_ms=60_000, patience_ms=60_000)
        assert answers.count_bids() == 1, "what there is will do"


async def test_an_order_that_no_node_takes_is_refused_with_their_reason(tmp_path: Path) -> None:
    async with market(tmp_path) as here:
        with pytest.raises(Refused) as refusal:
            await ordering.collect(
                here.light, here.draft(deposit=1), window_ms=0, patience_ms=100, on_answer=here.heard.append
            )
        assert refusal.value.code == "deposit.too_small"
        assert here.nodes[0].book.order(OrderId(bytes(32))) is None
