"""docs/reference/metrics.md, generated from the metrics themselves, so that it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fondaco.node.metrics.exposition import AREAS, process_collector
from fondaco.node.metrics.model import Metric
from fondaco.node.reference import COMMAND

INTRODUCTION = f"""# Metrics

Written by `{COMMAND}`. A node whose `node.toml` says `api = "127.0.0.1:PORT"`
serves them under `/metrics` there, in the text format of Prometheus; [what to watch](../how-to/monitor.md).

Counters begin at 0 with the process. `statistic` is `min`, `median` or `max`, and missing where there is no peer.
Peers are no labels: `fondaco net peers` shows them one by one. A metric of which nothing is known yet, such as
refusals before the first, has its HELP and TYPE all the same.
"""


def metrics_page() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for area, metrics in AREAS.items():
        lines += _table(area, [(one.name, one.kind, one.labels, one.help) for one in metrics])
    lines += _table("Process", list(_of_process()))
    return "\n".join(lines)


def _of_process() -> Iterator[tuple[str, str, Sequence[str], str]]:
    """What the library reads of the process, under our name."""
    for family in sorted(process_collector(None).collect(), key=lambda one: one.name):
        ending = "_total" if family.type == "counter" else ""
        yield family.name + ending, family.type, (), family.documentation


def _table(area: str, rows: Sequence[tuple[str, str, Sequence[str], str]]) -> list[str]:
    lines = [f"## {area}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for name, kind, labels, meaning in rows:
        shown = ", ".join(f"`{label}`" for label in labels)
        lines.append(f"| `{name}` | {kind} | {shown} | {meaning.rstrip('.')} |")
    return [*lines, ""]


def documented() -> dict[str, str]:
    """Name, as in the exposition's TYPE lines -> kind."""
    found = {_family_name(one): one.kind for metrics in AREAS.values() for one in metrics}
    return found | {family.name: family.type for family in process_collector(None).collect()}


def _family_name(metric: Metric) -> str:
    return metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
