"""A tiny gossip network measured for real, and the arithmetic around it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner

from fondaco.node import bench
from fondaco.node.bench import gossip, machine
from fondaco.node.bench.gossip import Outcome, dialled, neighbours, outcome_of, search
from fondaco.node.bench.gossiping import CHAIN, Member, Step, an_order
from fondaco.node.cli import cli
from fondaco.protocol import codec
from fondaco.protocol.market import SignedOrder, check_order
from fondaco.protocol.signing import Signer, sha256

ALL = ("own", "shipped", "batched")


@pytest.mark.e2e
@pytest.mark.heavy
def test_processes_gossip_over_our_router_and_over_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 0.5, "PATIENCE_S": 20.0, "P99_MS": 60_000.0, "MOST_RATE": 20.0}.items():
        monkeypatch.setattr(gossip, name, value)
    monkeypatch.setattr(gossip, "FIRST_RATE", dict.fromkeys(ALL, 20.0))
    result = CliRunner().invoke(cli, ["bench", "gossip", "--nodes", "2", "--json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    figures = {name: one["value"] for name, one in found["figures"].items()}
    assert (found["parameters"]["nodes"], found["parameters"]["neighbours"]) == (2, 1)
    for kind in ("", "baseline_", "baseline_batched_"):
        assert (figures[f"{kind}orders_per_s"], figures[f"{kind}delivery"]) == (20.0, 1.0)
        assert 0 < figures[f"{kind}p50_ms"] <= figures[f"{kind}p99_ms"]
        assert min(figures[f"{kind}{part}_us_per_item"] for part in ("cpu", "verify", "decode")) > 0
        assert 0 <= figures[f"{kind}others_cpu"] <= 1
    assert figures["copies"] >= 1
    assert 0 < found["limit"]["verify_us"]["value"] < figures["baseline_verify_us_per_item"] * 10
    assert found["limit"]["orders_per_s_of_signatures"]["value"] > 100


def test_a_process_that_fails_is_one_line_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "COMMAND", [sys.executable, "-c", "raise SystemExit('out of luck')"])
    result = CliRunner().invoke(cli, ["bench", "gossip", "--nodes", "2"])
    assert result.exit_code == 3
    assert "a process did not answer `open`: out of luck" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("nodes", ["1", "0", "two"])
def test_one_process_is_no_network(nodes: str) -> None:
    assert CliRunner().invoke(cli, ["bench", "gossip", "--nodes", nodes]).exit_code == 2


def test_all_measures_gossip_in_three_networks_and_by_itself_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure(nodes: int) -> bench.Result:
        asked.append(nodes)
        return bench.Result(bench="gossip", parameters={"nodes": nodes}, figures={})

    monkeypatch.setattr(gossip, "measure", measure)
    monkeypatch.setattr(bench, "BENCHES", {"gossip": bench.BENCHES["gossip"]})
    assert CliRunner().invoke(cli, ["bench", "gossip", "--json"]).exit_code == 0
    assert CliRunner().invoke(cli, ["bench", "all", "--json"]).exit_code == 0
    assert asked == [8, 4, 8, 16]


@pytest.mark.parametrize("nodes", range(2, 33))
def test_everybody_is_connected_with_some_and_nobody_twice(nodes: int) -> None:
    edges = {frozenset((one, other)) for one in range(nodes) for other in dialled(one, nodes)}
    assert sum(len(dialled(one, nodes)) for one in range(nodes)) == len(edges)
    assert {neighbours(one, nodes) for one in range(nodes)} == {2 * len(edges) // nodes}
    assert all(len(edge) == 2 for edge in edges)


def an_outcome(rate: float, delivered: int = 100, p99_ms: float = 10.0) -> Outcome:
    return Outcome(
        rate=rate,
        published=50,
        wanted=100,
        delivered=delivered,
        buckets=Counter({int(p99_ms * 10): delivered}),
        cpu_us_per_item=1.0,
        decode_us_per_item=1.0,
        verify_us_per_item=1.0,
        copies=2.0,
        items_per_message=3.0,
        others_cpu=0.0,
    )


@pytest.mark.parametrize(
    ("edge", "tried"),
    [
        (1_100, [100, 200, 400, 800, 1_000, 1_200, 1_600]),
        (30, [25, 31.25, 37.5, 50, 100]),
        (0, [6.25, 12.5, 25, 50, 100]),
        (10**9, [100 * 2**step for step in range(9)]),
    ],
)
async def test_the_rate_is_doubled_or_halved_and_then_closed_in_on(edge: int, tried: list[float]) -> None:
    async def measure(rate: float) -> Outcome:
        return an_outcome(rate, 100 if rate <= edge else 99)

    told: list[Outcome] = []
    found = await search(measure, 100.0, 2, told.append)
    assert [one.rate for one in found] == tried
    assert sorted(told, key=lambda one: one.rate) == found


def test_a_rate_is_sustained_where_all_came_in_time() -> None:
    assert an_outcome(10).is_sustained
    assert not an_outcome(10, delivered=99).is_sustained
    assert not an_outcome(10, p99_ms=251).is_sustained
    assert not an_outcome(10, delivered=0).is_sustained


def test_the_processes_are_taken_together() -> None:
    report: dict[str, Any] = {"published": 5, "delivered": 5, "bad": 0, "buckets": {"10": 4, "20": 1}}
    report |= {"cpu_s": 0.004, "decode_s": 0.001, "verify_s": 0.002, "messages": 9, "messages_new": 3}
    step = Step(number=1, rate=10.0, seconds=1.0, patience_s=1.0)
    outcome = outcome_of(step, [report, report], (10.0, 20.0), (10.508, 21.0))
    assert (outcome.wanted, outcome.delivered, outcome.delivery) == (10, 10, 1.0)
    assert (outcome.percentile_ms(50), outcome.percentile_ms(99)) == (1.1, 2.1)
    assert outcome.cpu_us_per_item == pytest.approx(200.0)
    assert (outcome.decode_us_per_item, outcome.verify_us_per_item) == (200.0, 400.0)
    assert (outcome.copies, outcome.others_cpu) == (3.0, 0.5)


def test_an_order_says_when_it_was_due_and_late_ones_of_another_step_do_not_count() -> None:
    member = Member(0, 2)
    signer = Signer(sha256(b"one"))
    orders = [an_order(signer, step, 1, number) for step, number in ((3, 0), (3, 7), (2, 9))]
    check_order(CHAIN, codec.decode(orders[0], SignedOrder))
    member.prepare(Step(number=3, rate=100.0, seconds=0.2, patience_s=0.0))
    assert len(member.items) == 10
    member.begin(1_000.0)
    assert member.due(1, 7) == pytest.approx(1_000.0 + 0.14 + 0.005)
    assert member.judge([*orders, orders[0]])
    assert member.report.delivered == 2
    assert not member.judge([an_order(signer, 3, 1, 8)[:-1] + b"\0"])
    assert member.report.bad == 1


def test_the_machine_says_how_busy_it_is() -> None:
    used, there = machine.busy()
    assert 0 <= used <= there
    assert machine.others((1.0, 10.0), (3.0, 20.0), 1.0) == 0.1
    assert machine.others((1.0, 10.0), (1.0, 10.0), 1.0) == 0.0
