"""What a node counts of its own work since it started: for the API, and for benchmarks, which take differences."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from fondaco.node.app import Node
from fondaco.node.book import Book, Reconciler
from fondaco.node.network.links import Links


def measures(node: Node) -> dict[str, Any]:
    """Processor time, decisions, and what went over which kind of stream.

    `decision_ms`, newest last, is the time from a proposer's beginning to the commit here, for the last of the
    `decided` heights. `host` counts connections, streams and what peers did wrong. What `mesh` counts is told in
    `protocol/gossip/counters.py`, and `proposals` in `consensus/rebuilding.py`.
    """
    finality = node.agreement.finality
    return {
        "height": node.chain.head.height,
        "cpu_ms": round(time.process_time() * 1_000, 3),
        "decided": finality.decided,
        "decision_ms": list(finality.commit_ms),
        "host": {**asdict(node.host.counters), "turned_away": node.host.turned_away},
        "consensus": _traffic(node.agreement.links),
        "proposals": asdict(node.agreement.proposals.rebuilder.counters),
        "gossip": _traffic(node.gossip.links),
        "mesh": asdict(node.gossip.router.counters),
        "reach": node.reach.counts(),
        "book": _book(node.book, node.reconciler),
        "discovery": node.discovery.counts(),
    }


def _book(book: Book, reconciler: Reconciler) -> dict[str, int]:
    """What is held, what there was no room for, and what rounds with neighbours brought and cost."""
    held = book.holdings
    return {
        "orders": len(held.orders),
        "answers": len(held.answers) + len(held.early),
        **asdict(held.counters),
        **asdict(reconciler.counters),
    }


def _traffic(links: Links | None) -> dict[str, int]:
    """Messages and their bytes, each counted once for every peer it went to or came from."""
    if links is None:
        return {}
    return {
        "messages_in": links.frames_in,
        "messages_out": links.frames_out,
        "bytes_in": links.bytes_in,
        "bytes_out": links.bytes_out,
    }
