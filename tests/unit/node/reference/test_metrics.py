"""The page of metrics is the one that would be written now."""

from __future__ import annotations

import re

from tests.support.children import ROOT

from fondaco.node.metrics.exposition import METRICS
from fondaco.node.metrics.model import CODES, counter, gauge
from fondaco.node.reference import metrics
from fondaco.node.reference.metrics import documented


def test_every_metric_is_named_once_says_what_it_is_and_is_on_the_page() -> None:
    page = metrics.metrics_page()
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in page
        assert metric.help.endswith(".")
        assert metric.name.startswith("fondaco_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert "peer" not in metric.labels


def test_alerts_name_metrics_that_exist() -> None:
    how_to = (ROOT / "docs/how-to/monitor.md").read_text(encoding="utf-8")
    known = {*documented(), *(f"{name}_{part}" for name in documented() for part in ("bucket", "total"))}
    named = set(re.findall(r"\bfondaco_\w+", how_to))
    assert len(named) > 10
    assert named <= known


def test_rare_codes_are_put_together() -> None:
    metric = counter("refused", "Test.", "code")
    counts = {f"code.{number:03}": number + 1 for number in range(CODES + 3)}
    readings = {reading.labels[0]: reading.value for reading in metric.by_code(counts)}
    assert len(readings) == CODES + 1
    assert readings["other"] == 1 + 2 + 3
    assert readings[f"code.{CODES + 2:03}"] == CODES + 3
    assert list(metric.by_code({})) == []


def test_a_spread_is_least_median_and_most() -> None:
    metric = gauge("score", "Test.", "statistic")
    readings = {reading.labels[0]: reading.value for reading in metric.spread([5.0, 1.0, 2.0])}
    assert readings == {"min": 1.0, "median": 2.0, "max": 5.0}
    assert list(metric.spread([])) == []
