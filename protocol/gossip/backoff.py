"""After a PRUNE neither side grafts the other for a while: until when, by topic and peer.

It outlasts the connection, or going and coming would get round it.
"""

from __future__ import annotations

from collections import OrderedDict

from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.scalars import Millis


class Backoffs:
    """Bounded in number, the oldest out first, and in time: a peer cannot ask for more than `longest_ms`."""

    def __init__(self, capacity: int, *, longest_ms: int, slack_ms: int) -> None:
        self.capacity = capacity
        self.longest_ms = longest_ms
        self.slack_ms = slack_ms
        self._until: OrderedDict[tuple[str, Peer], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, topic: str, peer: Peer, now: Millis, life_ms: int) -> None:
        """Back off for `life_ms`; a longer wait that is under way stays."""
        key = topic, peer
        self._until[key] = max(self._until.get(key, 0), now + min(life_ms, self.longest_ms))
        self._until.move_to_end(key)
        if len(self._until) > self.capacity:
            self._until.popitem(last=False)

    def left_ms(self, topic: str, peer: Peer, now: Millis) -> int:
        """How long `peer` must still not graft us; 0 when it may."""
        return max(0, self._until.get((topic, peer), 0) - now)

    def held(self, topic: str, peer: Peer, now: Millis) -> bool:
        """Whether we must not graft `peer`: a little longer than it must, since its clock began later."""
        until = self._until.get((topic, peer))
        return until is not None and now < until + self.slack_ms

    def pending(self, now: Millis) -> list[tuple[str, Peer, int]]:
        """(topic, peer, milliseconds left) of those during which a GRAFT of theirs would come too soon."""
        return [(topic, peer, until - now) for (topic, peer), until in self._until.items() if until > now]

    def expire(self, now: Millis) -> None:
        """Forget what is over, slack included."""
        for key in [key for key, until in self._until.items() if until + self.slack_ms <= now]:
            del self._until[key]
