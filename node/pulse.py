"""Looks at the running node several times a second: how late the event loop is, and what topics counted when.

Started with the API, which is the only one to ask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import trio

from fondaco.node.timings import Timings

BEAT_S = 0.25
MARK_S = 2.0
MARKS = 31
"""A minute of them."""
Counted = Mapping[str, Mapping[str, int]]
"""Topic -> what -> how many so far."""


class Pulse:
    """`run` it in a nursery."""

    def __init__(self) -> None:
        self.lag = Timings()
        """How much later than it asked to a task was woken: what everything else in the node waits, too."""
        self._marks: deque[tuple[float, Counted]] = deque(maxlen=MARKS)

    async def run(self, counted: Callable[[], Counted]) -> None:
        """Until cancelled."""
        self.mark(trio.current_time(), counted())
        while True:
            due = trio.current_time() + BEAT_S
            await trio.sleep_until(due)
            now = trio.current_time()
            self.lag.note(now - due)
            if now - self._marks[-1][0] >= MARK_S:
                self.mark(now, counted())

    def mark(self, now: float, counted: Counted) -> None:
        self._marks.append((now, counted))

    def per_minute(self, topic: str) -> dict[str, float]:
        """How fast each count of `topic` grew in the last minute; empty in the first seconds."""
        if len(self._marks) < 2:
            return {}
        (began, before), (ended, after) = self._marks[0], self._marks[-1]
        earlier, minutes = before.get(topic, {}), (ended - began) / 60
        return {
            what: round((count - earlier.get(what, 0)) / minutes, 2)
            for what, count in after.get(topic, {}).items()
        }
