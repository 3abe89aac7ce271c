"""The bench of choosing, at a small size: its figures and its limit are measured and positive."""

from fondaco.node.bench.selection import measure


def test_the_bench_decides_every_order() -> None:
    result = measure(orders=200, ranked=20)
    assert set(result.figures) == {"backtest_s", "backtest_us_per_order", "rank_ms"}
    assert result.parameters["orders"] == 200
    assert result.figures["backtest_us_per_order"].value > 0
    assert set(result.limit) == {"reading_bids_s"}
