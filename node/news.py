"""A bell that any number of tasks can wait for: "something changed, look again"."""

from __future__ import annotations

import trio


class News:
    """Each `ring` wakes everybody who waits.

    Take `next` before looking at what may have changed, then wait on it: nothing is missed in between.
    """

    def __init__(self) -> None:
        self.next = trio.Event()

    def ring(self) -> None:
        rung, self.next = self.next, trio.Event()
        rung.set()
