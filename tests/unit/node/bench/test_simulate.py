from __future__ import annotations

import pytest

from fondaco.node.bench import simulate


def test_both_figures_are_of_the_load_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "RUNS", 1)
    monkeypatch.setattr(simulate, "SIMULATED_MS", 60_000)
    found = simulate.measure()
    heights = found.parameters.pop("heights")
    assert found.parameters == {
        "validators": 4,
        "transactions_per_s": 1,
        "block_interval_s": 5,
        "simulated_s": 60,
        "runs": 1,
    }
    assert 10 <= heights <= 12, "five seconds apart at least"
    hours_per_s, heights_per_s = found.figures["simulated_hours_per_s"].value, found.figures["heights_per_s"].value
    assert heights_per_s == pytest.approx(hours_per_s * 60 * heights, rel=0.05)
