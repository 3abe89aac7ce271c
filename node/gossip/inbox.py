"""Batches that wait to be judged, and whose turn it is."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import trio

from fondaco.protocol import limits
from fondaco.protocol.gossip.router import Deliver, Peer

GIVE_WAY_MS = 50
"""A batch waits no longer than this for heavier topics: under any load some of every topic is judged."""
TURN_MS = 2
"""For so long batches are judged one after the other, at least one, before the rest of the node has a turn."""


class Inbox:
    """Batches of one topic, in order of coming; `rank` is that of the topic, lower ones are heavier."""

    def __init__(self, rank: int, capacity: int = limits.GOSSIP_QUEUE_BATCHES) -> None:
        self.rank = rank
        self.capacity = capacity
        self._waiting: deque[Deliver] = deque()
        self._from: Counter[Peer] = Counter()
        """Of those, how many came from each neighbour."""
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def room(self) -> int:
        """For so many batches may be asked: half the inbox is kept for those that come unasked."""
        return self.capacity // 2 - len(self._waiting)

    def put(self, delivery: Deliver) -> bool:
        """False if it is full. The newcomer stays outside: of it neighbours will hold copies the longest.

        Half of it is for others than any one neighbour: who floods it loses its own batches, not theirs.
        """
        if len(self._waiting) >= self.capacity or self._from[delivery.source] >= self.capacity // 2:
            return False
        self._from[delivery.source] += 1
        self._waiting.append(delivery)
        self._arrived.set()
        return True

    async def wait(self) -> None:
        """Until there is a batch."""
        if not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def pop(self) -> Deliver:
        delivery = self._waiting.popleft()
        self._from[delivery.source] -= 1
        if not self._from[delivery.source]:
            del self._from[delivery.source]
        return delivery


class Turns:
    """Has lighter topics wait for heavier ones, and all of them for the rest of the node."""

    def __init__(self) -> None:
        self._began = 0.0
        self._done = trio.Event()

    def done(self) -> None:
        """A topic has nothing left to judge."""
        self._done.set()
        self._done = trio.Event()

    async def take(self, mine: Inbox, inboxes: Iterable[Inbox]) -> None:
        """Before each batch of `mine`."""
        heavier = [inbox for inbox in inboxes if inbox.rank < mine.rank]
        if any(heavier):
            with trio.move_on_after(GIVE_WAY_MS / 1_000):
                while any(heavier):
                    await self._done.wait()
        elif trio.current_time() - self._began > TURN_MS / 1_000:
            await trio.lowlevel.checkpoint()
            self._began = trio.current_time()
