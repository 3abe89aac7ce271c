"""The demo's own output, and the round trip its figures are held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from fondaco.node import demo
from fondaco.node.bench import BENCHES, e2e
from fondaco.node.cli import cli

FIGURES: dict[str, Any] = {
    "order_to_first_bid_ms": 30,
    "order_to_lease_ms": 200,
    "order_to_running_ms": 900,
    "order_to_first_byte_ms": 950,
    "finality_ms": {"p50": 20, "p99": 40},
    "bids": 2,
    "declines": 0,
    "http_status": 200,
    "paid_ucredit": 33,
    "refunded_ucredit": 59_967,
    "supply_conserved": True,
    "wall_s": 12.5,
}


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Demos that are over at once; where each was told to make its network."""
    seen: list[Path] = []

    async def run_demo(home: Path, **options: Any) -> dict[str, Any]:
        seen.append(home)
        options["say"]("working")
        return FIGURES

    for module in (demo, e2e):
        monkeypatch.setattr(module, "run_demo", run_demo)
    return seen


def test_the_demo_ends_with_a_table_and_leaves_nothing_behind(homes: list[Path]) -> None:
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0
    for words in ("order -> running", "900 ms", "20 / 40 ms", "0.000033 credits", "0.059967 credits", "yes"):
        assert words in result.stdout
    assert "working" in result.stderr
    assert not homes[0].exists()


def test_a_demo_that_fails_leaves_its_logs_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_demo(home: Path, **options: Any) -> dict[str, Any]:
        raise demo.DemoFailed("deploy", "no")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 1
    kept = Path(result.stderr.partition("is left in ")[2].split()[0])
    assert kept.is_dir()
    kept.rmdir()


@pytest.mark.heavy
def test_the_benchmark_takes_medians_of_several_demos(homes: list[Path]) -> None:
    result = BENCHES["e2e"]().to_json()
    assert len(homes) == result["parameters"]["runs"] == e2e.RUNS
    assert result["figures"]["order_to_running_ms"] == {"value": 900, "unit": "ms"}
    assert result["figures"]["finality_p99_ms"] == {"value": 40, "unit": "ms"}
    assert result["limit"]["loopback_round_trip_us"]["value"] > 0
    assert not any(home.exists() for home in homes)


async def test_a_round_trip_on_loopback_takes_microseconds() -> None:
    with trio.fail_after(20):
        assert 1 < await e2e.round_trip_us() < 100_000
