"""Connections, links and their queues."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from fondaco.node.app import Node
from fondaco.node.metrics.model import Reading, counter, gauge
from fondaco.node.net.peers import links_of
from fondaco.node.network import sight
from fondaco.node.network.links import Links

PEERS = gauge("peers", "Connected peers, by who dialled.", "direction")
CONNECTED = counter("network_connected", "Peers that came.")
DISCONNECTED = counter("network_disconnected", "Peers that went.")
DIAL_FAILURES = counter("network_dial_failures", "Dials that nobody answered as they should.")
STREAMS = counter("network_streams", "Streams that were opened, by who did.", "direction")
OVER_LIMIT = counter("network_streams_refused", "Streams refused because their connection had as many as one may.")
HANDLER_ERRORS = counter("network_handler_errors", "Stream handlers that failed by a bug of ours.")
FAULTS = counter("network_peer_faults", "Faults of peers: what no honest one does.")
BANS = counter("network_bans", "Peers banned because their faults were too many.")
DROPS = counter("network_drops", "Peers whose connections we ended.")
SILENT = counter("network_silent", "Connections cut because no ping came back.")
TURNED_AWAY = counter(
    "network_turned_away", "Inbound sockets refused: too many at their address, or it is banned."
)
SOCKETS = gauge("network_inbound_sockets", "Inbound sockets open now, those still shaking hands included.")
BANNED = gauge("network_banned", "Peers and networks that are banned now.")
ROUND_TRIP = gauge(
    "network_round_trip_seconds", "Round trips of keepalive pings, smoothed, over all peers.", "statistic"
)
LINKS = gauge("link_peers", "Peers that frames can be sent to.", "link")
QUEUE_FRAMES = gauge("link_queue_frames", "Frames that wait to be sent, to all peers.", "link")
QUEUE_BYTES = gauge("link_queue_bytes", "Their bytes.", "link")
QUEUE_LONGEST = gauge("link_queue_longest_bytes", "Bytes that wait for the slowest peer.", "link")
QUEUE_LIMIT = gauge(
    "link_queue_limit_bytes", "Bytes that may wait for one peer; beyond them the oldest go.", "link"
)
SHED = counter("link_shed_frames", "Frames dropped because a peer reads too slowly.", "link")
FRAMES = counter("link_frames", "Frames, each counted once for every peer.", "link", "direction")
BYTES = counter("link_bytes", "Bytes of frames, before they are encrypted.", "link", "direction")

METRICS = (
    *(PEERS, CONNECTED, DISCONNECTED, DIAL_FAILURES, STREAMS, OVER_LIMIT, HANDLER_ERRORS, FAULTS, BANS, DROPS),
    *(SILENT, TURNED_AWAY, SOCKETS, BANNED, ROUND_TRIP),
    *(LINKS, QUEUE_FRAMES, QUEUE_BYTES, QUEUE_LONGEST, QUEUE_LIMIT, SHED, FRAMES, BYTES),
)


def read(node: Node) -> Iterator[Reading]:
    host, counters, peers = node.host, node.host.counters, node.host.peers()
    dialled = sum(map(host.dialled, peers))
    yield PEERS.at(dialled, "out")
    yield PEERS.at(len(peers) - dialled, "in")
    yield CONNECTED.at(counters.connected)
    yield DISCONNECTED.at(counters.disconnected)
    yield DIAL_FAILURES.at(counters.dial_failures)
    yield STREAMS.at(counters.streams_in, "in")
    yield STREAMS.at(counters.streams_out, "out")
    yield OVER_LIMIT.at(counters.streams_over_limit)
    yield HANDLER_ERRORS.at(counters.handler_errors)
    yield FAULTS.at(counters.peer_faults)
    yield BANS.at(counters.bans)
    yield DROPS.at(counters.drops)
    yield SILENT.at(counters.silent)
    yield TURNED_AWAY.at(sight.turned_away(host))
    yield SOCKETS.at(sight.inbound_sockets(host))
    yield BANNED.at(len(host.bans.listed(trio.current_time())))
    measured = map(host.round_trip_ms, peers)
    yield from ROUND_TRIP.spread(one / 1_000 for one in measured if one is not None)
    for name, links in links_of(node).items():
        yield from _links(name, links)


def _links(name: str, links: Links) -> Iterator[Reading]:
    outboxes = [box for box in map(links.outbox, links.peers()) if box is not None]
    yield LINKS.at(len(outboxes), name)
    yield QUEUE_FRAMES.at(sum(map(len, outboxes)), name)
    yield QUEUE_BYTES.at(sum(box.size for box in outboxes), name)
    yield QUEUE_LONGEST.at(max((box.size for box in outboxes), default=0), name)
    yield QUEUE_LIMIT.at(links.queue_bytes, name)
    yield SHED.at(links.shed_frames(), name)
    yield FRAMES.at(links.frames_in, name, "in")
    yield FRAMES.at(links.frames_out, name, "out")
    yield BYTES.at(links.bytes_in, name, "in")
    yield BYTES.at(links.bytes_out, name, "out")
