"""`fondaco bench channel` over real processes: that bytes go each way, not how fast."""

from __future__ import annotations

import pytest

from fondaco.node.bench import channel

pytestmark = [pytest.mark.e2e, pytest.mark.heavy]


def test_a_forward_and_a_bare_stream_carry_bytes_both_ways_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ROUNDS", 1), ("SECONDS", 0.1), ("ECHOES", 5)):
        monkeypatch.setattr(channel, name, value)
    result = channel.measure()
    names = {"mb_per_s", "up_mb_per_s", "rtt_ms", "raw_mb_per_s", "raw_up_mb_per_s", "raw_rtt_ms"}
    assert set(result.figures) == names
    assert all(figure.value > 0 for figure in result.figures.values())
