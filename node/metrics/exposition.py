"""All metrics of a node as text, by the Prometheus client library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from fondaco.node.app import Node
from fondaco.node.metrics import chain, gossip, machine, market, network, provider
from fondaco.node.metrics.machine import Disk
from fondaco.node.metrics.model import Metric, Reading
from fondaco.node.timings import Timings

CONTENT_TYPE = CONTENT_TYPE_LATEST
AREAS = {
    "Network": network.METRICS,
    "Gossip": gossip.METRICS,
    "Mempool, book and market": market.METRICS,
    "Chain and agreement": chain.METRICS,
    "Provider": provider.METRICS,
    "Machine": machine.METRICS,
}
METRICS = tuple(metric for metrics in AREAS.values() for metric in metrics)


class NodeCollector(Collector):
    """Reads the node whenever it is asked; every metric has its family, though nothing be read of it."""

    def __init__(self, node: Node, disk: Disk) -> None:
        self._node = node
        self._disk = disk

    def collect(self) -> Iterable[Family]:
        families = {metric: _family(metric) for metric in METRICS}
        for reading in self._read():
            _add(families[reading.metric], reading)
        return families.values()

    def _read(self) -> Iterator[Reading]:
        for area in (network, gossip, market, chain, provider):
            yield from area.read(self._node)
        yield from machine.read(self._node, self._disk)


def registry_of(node: Node, disk: Disk) -> CollectorRegistry:
    """The node's metrics, and those of the process that the library reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node, disk))
    process_collector(registry)
    return registry


def process_collector(registry: CollectorRegistry | None) -> ProcessCollector:
    return ProcessCollector(namespace="fondaco", registry=registry)


def exposition(registry: CollectorRegistry) -> bytes:
    return generate_latest(registry)


def _family(metric: Metric) -> Family:
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        case "histogram":
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)


def _add(family: Family, reading: Reading) -> None:
    value = reading.value
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, Timings)
        family.add_metric(reading.labels, _buckets(value), value.sum_s)
        return
    assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
    assert not isinstance(value, Timings)
    family.add_metric(reading.labels, float(value))


def _buckets(timings: Timings) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    found, total = list[tuple[str, float]](), 0
    for bound, count in zip((*map(str, timings.bounds_s), "+Inf"), timings.counts, strict=True):
        total += count
        found.append((bound, total))
    return found
