"""Who offered a message (IHAVE) must send it when asked (IWANT): one id of each request is watched.

The message keeps the promise of all who made it, whoever sent it, for they can no longer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from fondaco.protocol.gossip.effects import MessageId, Peer
from fondaco.protocol.scalars import Millis


class Promises:
    """Bounded: where there is no room the oldest is forgotten, in the peer's favour."""

    def __init__(self, capacity: int, life_ms: int) -> None:
        self.capacity = capacity
        self.life_ms = life_ms
        self._made: OrderedDict[tuple[MessageId, Peer], int] = OrderedDict()
        self._of: dict[MessageId, set[Peer]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def add(self, identity: MessageId, peer: Peer, now: Millis) -> None:
        """`peer` was asked for it; being asked again does not give it more time."""
        if (identity, peer) in self._made:
            return
        if len(self._made) >= self.capacity:
            self._drop(next(iter(self._made)))
        self._made[identity, peer] = now + self.life_ms
        self._of.setdefault(identity, set()).add(peer)

    def kept(self, identity: MessageId) -> None:
        """The message came."""
        for peer in self._of.pop(identity, ()):
            del self._made[identity, peer]

    def broken(self, now: Millis) -> Counter[Peer]:
        """How many promises of each peer are overdue; they are forgotten."""
        found: Counter[Peer] = Counter()
        while self._made:
            key = next(iter(self._made))
            if self._made[key] > now:
                break
            self._drop(key)
            found[key[1]] += 1
        return found

    def _drop(self, key: tuple[MessageId, Peer]) -> None:
        del self._made[key]
        peers = self._of[key[0]]
        peers.discard(key[1])
        if not peers:
            del self._of[key[0]]
