"""Messages that came when the application had no room for them, and that neighbours still hold.

They count as not seen, so that a later copy is as good as the first; and they are asked for once there is room
again, as IWANT allows for any message and not only for those offered: in a small mesh nothing is ever offered,
for everybody gets everything at once. Nobody promised them, so nobody is blamed who does not send them.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Container
from dataclasses import dataclass

from fondaco.protocol.gossip.effects import MessageId, Peer
from fondaco.protocol.scalars import Millis


@dataclass(slots=True)
class _Missed:
    topic: str
    holders: tuple[Peer, ...]
    until: Millis
    asked: bool = False


class Missed:
    """Bounded in number and time: oldest out first, and gone when neighbours no longer hold them."""

    def __init__(self, capacity: int, life_ms: int) -> None:
        self.capacity = capacity
        self.life_ms = life_ms
        self.lost: Counter[str] = Counter()
        """By topic, those that never came again."""
        self._entries: OrderedDict[MessageId, _Missed] = OrderedDict()
        self._under_way: Counter[str] = Counter()
        """By topic, those asked for that have not come."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, identity: MessageId, topic: str, holders: tuple[Peer, ...], now: Millis) -> None:
        self._entries[identity] = _Missed(topic, holders, Millis(now + self.life_ms))
        if len(self._entries) > self.capacity:
            self._lose()

    def came(self, identity: MessageId) -> bool:
        """Whether a message that came now is one of these; it is no longer."""
        one = self._entries.pop(identity, None)
        if one is None:
            return False
        self._under_way[one.topic] -= one.asked
        return True

    def recall(self, topic: str, room: int, peers: Container[Peer]) -> dict[Peer, list[MessageId]]:
        """Whom of `peers` to ask for what of a topic: each message once, the oldest first.

        No more than there is `room` for, with those that were asked for and have not come.
        """
        asked: dict[Peer, list[MessageId]] = {}
        for identity, one in self._entries.items():
            if self._under_way[topic] >= room:
                break
            if one.asked or one.topic != topic:
                continue
            holder = next((peer for peer in one.holders if peer in peers), None)
            if holder is not None:
                one.asked = True
                self._under_way[topic] += 1
                asked.setdefault(holder, []).append(identity)
        return asked

    def expire(self, now: Millis) -> None:
        while self._entries and next(iter(self._entries.values())).until <= now:
            self._lose()

    def _lose(self) -> None:
        _, gone = self._entries.popitem(last=False)
        self._under_way[gone.topic] -= gone.asked
        self.lost[gone.topic] += 1
