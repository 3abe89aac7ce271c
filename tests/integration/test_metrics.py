"""The metrics of whole nodes: complete, well formed, and moving when things happen."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from tests.support.network import until
from tests.support.small_networks import Asked, network

from fondaco.node.gossip import Topic
from fondaco.node.metrics.exposition import exposition, registry_of
from fondaco.node.metrics.machine import PARTS, Disk, measure
from fondaco.node.reference.metrics import documented
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.wire import Rpc

EMPTY_RPC = wire.delimit(wire.encode(Rpc()))
SILENT_AT_FIRST = {"fondaco_book_refused", "fondaco_mempool_refused"}
"""Those whose labels are codes, and nothing was refused."""


async def scrape(one: Asked) -> dict[str, Family]:
    answer = await one.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    """Of one sample, by its whole name."""
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) == 1, f"{name} {labels}: {len(found)} of it"
    return float(found[0])


async def test_what_is_documented_is_there_and_nothing_else(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        await until(lambda: one.node.host.round_trip_ms(two.node.host.peer_id) is not None)
        families = await scrape(one)
        assert {name: family.type for name, family in families.items()} == documented()
        silent = {name for name, family in families.items() if not family.samples}
        a_providers = {name for name in families if name.startswith("fondaco_provider_")}
        assert a_providers <= silent <= SILENT_AT_FIRST | a_providers
        for family in families.values():
            assert family.documentation
            assert two.id not in str(family.samples), "peers are no labels"


async def test_they_say_what_the_node_says_elsewhere(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        await until(lambda: one.node.host.round_trip_ms(two.node.host.peer_id) is not None)
        families = await scrape(one)
        assert value(families, "fondaco_chain_height") >= 1
        assert value(families, "fondaco_validator") == 1
        assert value(families, "fondaco_validators") == 2
        ways = [value(families, "fondaco_peers", direction=way) for way in ("in", "out")]
        assert sum(ways) == 1
        assert value(families, "fondaco_gossip_mesh_peers", topic="orders") == 1
        assert 0 < value(families, "fondaco_network_round_trip_seconds", statistic="max") < 60
        decided = value(families, "fondaco_consensus_decisions_total")
        assert 1 <= decided <= value(families, "fondaco_consensus_rounds_total")
        assert value(families, "fondaco_consensus_finality_seconds_count") == decided
        assert value(families, "fondaco_consensus_finality_seconds_bucket", le="+Inf") == decided
        assert value(families, "fondaco_disk_used_bytes", part="chain") > 0
        assert value(families, "fondaco_disk_free_bytes") > 0
        assert value(families, "fondaco_process_cpu_seconds_total") > 0
        assert value(families, "fondaco_process_threads") >= 1


async def test_counters_move_when_things_happen(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        links = one.node.gossip.links
        box = links.outbox(two.node.host.peer_id)
        assert box is not None
        before = await scrape(one)
        box.max_frames = 1
        for _ in range(3):  # nobody writes between these
            box.put(EMPTY_RPC)
        box.max_frames = limits.SEND_QUEUE_FRAMES
        assert box.shed.total() == 2
        one.node.host.blame(two.node.host.peer_id, PeerFault("test.fault", "nonsense"))
        one.node.gossip.publish(Topic.BIDS, b"nonsense")
        with pytest.raises(PeerFault):
            await one.node.submit(b"nonsense")
        code = next(iter(one.node.mempool.refusals))
        after = await scrape(one)

        def moved(name: str, **labels: str) -> float:
            return value(after, name, **labels) - value(before, name, **labels)

        assert moved("fondaco_link_shed_frames_total", link="gossip") == 2
        assert moved("fondaco_network_peer_faults_total") == 1
        assert value(after, "fondaco_mempool_refused_total", code=code) == 1
        await until(lambda: two.node.gossip.router.counters.rejected == 1)
        heard = await scrape(two)
        assert value(heard, "fondaco_gossip_messages_total", topic="bids", outcome="rejected") == 1
        assert value(heard, "fondaco_gossip_handler_seconds_count", topic="bids") == 1
        published = await scrape(one)
        assert value(published, "fondaco_gossip_messages_total", topic="bids", outcome="published") == 1


async def test_a_handler_that_is_too_slow_sheds_and_says_so(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as (one,):
        one.node.gossip.counters.of("bids").shed_slow_handler = 7
        families = await scrape(one)
        assert value(families, "fondaco_gossip_dropped_total", topic="bids", reason="handler") == 7
        assert one.node.gossip.shed_batches == 7


async def test_the_text_is_made_once_a_scrape_of_what_is_there_at_that_moment(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as (one,):
        registry = registry_of(one.node, Disk())
        first, one.node.agreement.dropped = exposition(registry), 5
        assert b"\nfondaco_consensus_dropped_total 0.0\n" in first
        assert b"\nfondaco_consensus_dropped_total 5.0\n" in exposition(registry)


def test_a_folder_is_measured_by_part_and_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "chain.db").write_bytes(bytes(10_000))
    (tmp_path / "chain.db-wal").write_bytes(bytes(10_000))
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1").write_bytes(bytes(5_000))
    (tmp_path / "something").write_bytes(bytes(1))
    used, free = measure(tmp_path)
    assert tuple(used) == PARTS
    assert used["chain"] >= 20_000
    assert used["journal"] >= 5_000
    assert used["other"] > 0
    assert used["market"] == used["evidence"] == 0
    assert free > 0
