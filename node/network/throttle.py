"""How fast one stream is listened to: a burst, then so many frames a second; the rest waits at the sender.

Nobody is refused or blamed for speed. But every frame costs us processor time, and what one peer may take of that
is bounded: its own words wait in its own queue, while everybody else is heard.
"""

from __future__ import annotations

import trio

LINK_FRAMES = (4_000, 2_000)
"""Burst and rate of gossip or consensus; at 100 us or so each, a fifth of a processor."""
REQUESTS = (1_000, 500)
"""Of requests, which cost more."""


class Throttle:
    """Of one stream."""

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = trio.current_time()

    async def turn(self) -> None:
        """Return when the next frame may be taken: within the pace at once, without a turn of the scheduler."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - 1
        self._at = now
        if self._left < 0:
            await trio.sleep(-self._left / self._per_s)
