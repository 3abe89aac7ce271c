"""What a router counts since its start, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Each only grows."""

    published: int = 0
    received: int = 0
    duplicates: int = 0
    delivered: int = 0
    accepted: int = 0
    ignored: int = 0
    rejected: int = 0
    unwanted: int = 0
    """Messages of topics we do not subscribe to."""
    shed: int = 0
    """Messages dropped because too many waited for a verdict."""
    no_room: int = 0
    """Messages that the application had no room for, of which so many were asked for again, and came again."""
    recalled: int = 0
    recovered: int = 0
    sent: int = 0
    """RPCs, once for each neighbour."""
    grafts_sent: int = 0
    grafts_received: int = 0
    grafts_refused: int = 0
    grafts_too_soon: int = 0
    """During a back-off."""
    opportunistic_grafts: int = 0
    prunes_sent: int = 0
    prunes_received: int = 0
    ihave_sent: int = 0
    """Ids offered, as are the next three."""
    ihave_received: int = 0
    iwant_sent: int = 0
    iwant_received: int = 0
    answered: int = 0
    """Messages sent because they were asked for."""
    gossip_refused: int = 0
    """IHAVE and IWANT not heeded: a bad score, or too many."""
    promises_broken: int = 0
    graylisted: int = 0
    """RPCs not read because of their sender's score."""
    suggestions: int = 0
    """Peers that trusted neighbours named in a PRUNE."""


@dataclass(slots=True)
class TopicCounters:
    """Of the above what belongs to one topic that we publish in or want."""

    published: int = 0
    duplicates: int = 0
    delivered: int = 0
    accepted: int = 0
    ignored: int = 0
    rejected: int = 0
    shed: int = 0
