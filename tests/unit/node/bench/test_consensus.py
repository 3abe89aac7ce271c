"""A small network measured for real, the arithmetic of a window, and the floor it is held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fondaco.node import bench
from fondaco.node.bench import consensus, floor, throughput, transaction_cost
from fondaco.node.bench.consensus import window_of
from fondaco.node.bench.throughput import Step
from fondaco.node.cli import cli


def measures(height: int, decided: int, cpu_ms: float, messages: int) -> dict[str, Any]:
    traffic = {"messages_out": messages, "bytes_out": 100 * messages}
    return {
        "height": height,
        "decided": decided,
        "decision_ms": list(range(decided)),
        "cpu_ms": cpu_ms,
        "consensus": traffic,
        "gossip": traffic,
    }


def test_a_window_counts_what_came_between_two_answers_and_not_what_idling_costs() -> None:
    before = {"a": measures(10, 7, 100.0, 50), "b": measures(9, 9, 300.0, 60)}
    after = {"a": measures(12, 9, 130.0, 70), "b": measures(12, 12, 340.0, 80)}
    window = window_of(before, after, idle_ms=5.0)
    assert window.heights == 2
    assert window.decision_ms == (7, 8, 9, 10, 11)
    assert window.cpu_ms_per_block == (30 + 40 - 2 * 5.0) / 4
    assert (window.messages_per_block, window.bytes_per_block) == (10, 1_000)
    assert window.gossip_messages_per_block == 10


@pytest.mark.e2e
@pytest.mark.heavy
def test_validators_as_processes_are_measured_with_the_floor_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HEIGHTS": 3, "WINDOWS": 1, "WARM_UP": 1, "IDLE_S": 0.1}.items():
        monkeypatch.setattr(consensus, name, value)
    monkeypatch.setattr(throughput, "RATES", (100, 120))
    for name, seconds in {"SECONDS": 1.5, "STEADY_STEP_S": 1.0}.items():
        monkeypatch.setattr(throughput, name, seconds)
    monkeypatch.setattr(throughput, "SETTLE_MS", 200)
    for name, value in {"BLOCKS": 1, "TRANSFERS": 10, "BATCHES": 2}.items():
        monkeypatch.setattr(transaction_cost, name, value)
    result = CliRunner().invoke(cli, ["bench", "consensus", "--nodes", "2", "--minutes", "0.03", "--json"])
    found = json.loads(result.stdout)
    figures = {name: one["value"] for name, one in found["figures"].items()}
    assert figures["nodes"] == found["parameters"]["nodes"] == 2
    assert 0 < figures["decision_p50_ms"] <= figures["decision_p99_ms"] < 10_000
    assert figures["messages_per_block"] >= 2 * 3, "two votes and a certificate to the other and to the follower"
    assert {"decision_ms", "fsync_us", "verify_us", "stream_round_trip_us"} <= set(found["limit"])
    assert 0 < figures["tx_per_s"] < 200 < found["limit"]["tx_per_s_of_signatures"]["value"]
    assert 0 < figures["finality_p50_ms"] <= figures["finality_p99_ms"]
    assert figures["finality_at_100_p50_ms"] > 0
    assert figures["cpu_us_per_tx"] > figures["load_cpu_us_per_tx"] > 0
    assert {f"{part}_us_per_tx" for part in (*transaction_cost.PARTS, "gossip")} <= set(figures)
    assert 0 <= figures["others_cpu"] <= 1
    assert figures["rss_mb_minute_3"] > 10
    assert figures["rss_mb_end"] > 10


def a_step(rate: int, reached: float, *finality_ms: int, unanswered: int = 0) -> Step:
    return Step(
        rate=rate,
        tx_per_s=reached,
        finality_ms=finality_ms,
        unanswered=unanswered,
        cpu_us_per_tx=1.0,
        load_cpu_us_per_tx=1.0,
        others_cpu=0.0,
    )


def test_the_best_rate_is_the_highest_that_was_kept_up_with_in_time() -> None:
    steps = [
        a_step(100, 99.0, 50, 60, 70),
        a_step(400, 390.0, 100, 200, 300),
        a_step(700, 690.0, 900, 1_100, 1_200),
    ]
    found = {name: one.value for name, one in throughput.summed_up(steps).items()}
    assert (found["tx_per_s"], found["finality_p50_ms"], found["finality_p99_ms"]) == (390.0, 200, 300)
    assert (found["most_tx_per_s"], found["finality_at_100_p50_ms"]) == (690.0, 60)
    assert not a_step(100, 90.0, 50).is_sustained
    assert not a_step(100, 100.0).is_sustained
    assert not a_step(100, 100.0, 50, unanswered=1).is_sustained
    assert throughput.summed_up([a_step(400, 100.0, 5_000)])["tx_per_s"].value == 100.0


def test_the_floor_grows_with_the_validators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "RUNS", 5)
    four, ten = (floor.measure(tmp_path / str(nodes), nodes) for nodes in (4, 10))
    assert all(one.value > 0 for one in four.values())
    per_signature = {name: figures["verify_us"].value for name, figures in (("four", four), ("ten", ten))}
    assert four["signatures_ms_per_block"].value > 8 * per_signature["four"] / 1_000
    assert ten["signatures_ms_per_block"].value > 20 * per_signature["ten"] / 1_000


@pytest.mark.parametrize("text", ["", "4,", "0", "four", "33"])
def test_networks_are_given_as_numbers_with_commas(text: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "consensus", "--nodes", text])
    assert result.exit_code == 2
    assert "numbers from 1 to 32" in result.stderr


def test_all_measures_networks_of_three_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []

    def measure(nodes: int, minutes: float) -> bench.Result:
        asked.append(nodes)
        return bench.Result(bench="consensus", parameters={"nodes": nodes}, figures={})

    monkeypatch.setattr(consensus, "measure", measure)
    monkeypatch.setattr(bench, "BENCHES", {"consensus": bench.BENCHES["consensus"]})
    table = tmp_path / "table.md"
    result = CliRunner().invoke(cli, ["bench", "all", "--json", "--table", str(table)])
    assert len(json.loads(result.stdout)["benches"]) == 3
    assert asked == [4, 7, 10]
    assert "## consensus, 7 validators" in table.read_text(encoding="utf-8")
