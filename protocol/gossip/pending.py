"""Messages between their arrival and the time when nobody cares who else had them."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.gossip.wire import Message
from fondaco.protocol.scalars import Millis


@dataclass(slots=True)
class Pending:
    """A message that waits for its verdict."""

    message: Message
    source: Peer
    holders: dict[Peer, None]
    """Neighbours that have it, as they sent it; the source is the first."""


@dataclass(slots=True)
class Accepted:
    """A message that late copies of may still count for their senders."""

    at: Millis
    holders: dict[Peer, None]
