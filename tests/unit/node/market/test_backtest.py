"""Recorded orders decided again: with what was known then, and what came of it after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.actors import Actor
from tests.support.ledger import HOUR, a_group
from tests.support.markets import GPUS, Marketplace, gpu_unit, marketplace

from fondaco.node import config
from fondaco.node.cli import cli
from fondaco.node.config import NodeConfig
from fondaco.node.market.backtest import Recording, Report, replay
from fondaco.node.market.dump import open_database
from fondaco.node.tenant.choosing import choice
from fondaco.protocol import addresses, reasons
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import MicroCredits, Millis
from fondaco.protocol.selection import Candidate, Knowledge, Score

NAMES = ("alice", "bob", "paul", "petra", "olga")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Marketplace]:
    """Two orders that both providers bid on: paul is cheap and fails the first, petra is dear and attested."""
    (tmp_path / "data").mkdir()
    settings = NodeConfig(home=tmp_path, name="n", listen="127.0.0.1:1", market=True)
    (tmp_path / "node.toml").write_text(config.dump(settings))
    with marketplace(tmp_path / "data", *NAMES) as opened:
        alice, bob, paul, petra, olga = opened.town.actors(*NAMES)
        opened.grow(
            paul.registers(attributes=[("region", "us")]), petra.registers(attributes=[*GPUS, ("region", "eu")])
        )
        opened.grow(olga.attests(petra, [("region", "eu")], for_ms=24 * HOUR))
        order, (cheap, _) = asks(opened, alice, [(paul, 1_000), (petra, 2_000)])
        draft = alice.opens(order, cheap, deposit=9_000)
        opened.grow(draft)
        opened.grow(paul.activates(draft.lease, receipt_of=alice))
        opened.grow(paul.closes(draft.lease, reason=reasons.UNSTABLE), after_ms=HOUR)
        order, (_, dear) = asks(opened, bob, [(paul, 1_000), (petra, 3_000)])
        opened.grow(bob.opens(order, dear, deposit=9_000))
        yield opened


def asks(
    place: Marketplace, tenant: Actor, offers: Sequence[tuple[Actor, int]], group: Group | None = None
) -> Any:
    order: SignedOrder = tenant.order(group or a_group(price=4_000), deposit=MicroCredits(9_000))
    place.hear(order)
    bids = [provider.bid(order, price) for provider, price in offers]
    for bid in bids:
        place.hear(bid)
    place.step()
    return order, bids


def decided(place: Marketplace, name: str, where: str = "", **options: Any) -> Report:
    chosen = choice(name, where)
    with closing(open_database(place.database)) as connection:
        return replay(Recording(connection), chosen.strategy, where=chosen.where, **options)


def test_the_cheapest_pays_least_and_meets_the_outage(place: Marketplace) -> None:
    paul = place.town.actors("paul")[0].key
    report = decided(place, "cheapest")
    assert (report.groups, report.placed, report.providers) == (2, 2, {paul: 2})
    assert (report.price_per_hour, report.cheapest_per_hour, report.maximum_per_hour) == (2_000, 2_000, 8_000)
    assert (report.taken, report.same_as_taken) == (2, 1)
    assert (report.outages_before, report.outages_within_a_day) == (1, 1)


def test_attestations_and_outages_count_from_when_they_were_there(place: Marketplace) -> None:
    petra = place.town.actors("petra")[0].key
    report = decided(place, "audited-first")
    assert (report.providers, report.price_per_hour, report.outages_within_a_day) == ({petra: 2}, 5_000, 0)
    report = decided(place, "cheapest", "outages = 0")
    assert (report.placed, report.price_per_hour) == (2, 1_000 + 3_000)
    assert report.set_aside == {"outages = 0": 1}


def test_what_is_spread_goes_elsewhere_the_second_time(place: Marketplace) -> None:
    alice, paul, petra = place.town.actors("alice", "paul", "petra")
    asks(place, alice, [(paul, 1_000), (petra, 3_000)])
    assert decided(place, "spread").providers == {paul.key: 1, petra.key: 2}


def test_orders_without_bids_and_with_none_that_would_do_are_counted_apart(place: Marketplace) -> None:
    alice, paul = place.town.actors("alice", "paul")
    asks(place, alice, [])
    asks(place, alice, [(paul, 1_000)])
    report = decided(place, "cheapest", "region = eu")
    assert (report.groups, report.placed, report.without_bids, report.all_set_aside) == (4, 2, 1, 1)
    assert report.set_aside == {"region = eu": 3}


def test_an_order_waits_for_its_first_bid_and_not_for_what_comes_after_its_window(place: Marketplace) -> None:
    assert decided(place, "audited-first", window_ms=0).price_per_hour == 2_000
    assert decided(place, "audited-first", window_ms=25).price_per_hour == 5_000


def test_only_what_came_since_is_decided_and_progress_is_told(place: Marketplace) -> None:
    with closing(open_database(place.database)) as connection:
        recording = Recording(connection)
        newest = recording.newest()
        assert (recording.count(newest), recording.count(Millis(newest + 1))) == (1, 0)
    assert decided(place, "cheapest", since=newest).groups == 1
    alice, paul = place.town.actors("alice", "paul")
    told: list[int] = []
    for _ in range(3):
        asks(place, alice, [(paul, 1_000)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fondaco.node.market.backtest.deciding.EVERY", 2)
        decided(place, "cheapest", progress=told.append)
    assert told == [2, 4]


def test_queries_see_what_a_recorded_bid_offers(place: Marketplace) -> None:
    alice, petra = place.town.actors("alice", "petra")
    wanted = replace(a_group(price=4_000), units=(gpu_unit("h100/ram/80Gi", units=2),))
    asks(place, alice, [(petra, 1_500)], wanted)
    for text in (
        "gpu.model = h100 and gpu.units = 2",
        "gpu.ram = 80GB",
        f"provider = {addresses.encode(petra.key)} and gpu.units = 2",
    ):
        assert decided(place, "cheapest", f"{text} and attribute.region = eu").placed == 1, text


def fewest_outages(group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
    """Somebody's own strategy."""
    counts = [known.of(one.provider).outages or 0 for one in candidates]
    return [
        Score(key=(count, one.price_per_hour), reason="") for count, one in zip(counts, candidates, strict=True)
    ]


# The command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["backtest", *map(str, arguments)])


def test_strategies_are_compared_in_one_run(tmp_path: Path, place: Marketplace) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('require = "audited"')
    (tmp_path / "own_strategy.py").write_text(
        "from tests.unit.node.market.test_backtest import fewest_outages as choose\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = run("cheapest", rules, "own_strategy:choose", "--home", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["strategies"]
    assert [one["strategy"] for one in found] == ["cheapest", str(rules), "own_strategy:choose"]
    assert [one["price_per_hour"] for one in found] == [2_000, 5_000, 4_000]
    text = run("cheapest", "--home", tmp_path, "--since", "30m", "--where", "price < 1").stdout
    assert "groups    1, 1 placed, 0 without bids, 0 with none that would do" in text
    assert "chosen: fond1" in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("cheepest",), "select.unknown"),
        (("nowhere.toml",), "rules.file"),
        (("no_such_module:choose",), "select.function"),
        (("json:no_such_name",), "select.function"),
        (("json:__name__",), "select.function"),
        ((":x",), "select.function"),
        (("cheapest", "--where", "prize < 1"), "query.field"),
        (("cheapest", "--since", "soon"), "backtest.time"),
        (("cheapest", "--window", "-"), "backtest.time"),
    ],
)
def test_what_cannot_be_decided_by_is_refused(
    tmp_path: Path, place: Marketplace, arguments: tuple[str, ...], code: str
) -> None:
    result = run(*arguments, "--home", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"[{code}]" in result.stderr


@pytest.mark.parametrize("content", [b"require = ", b"\xff", b"#" * 70_000])
def test_a_rules_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    result = run(path, "--home", tmp_path)
    assert "[rules.file]" in result.stderr
