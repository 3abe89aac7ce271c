"""A bell that any number of tasks can wait for: "something changed, look again"."""

from __future__ import annotations

import trio


class News:
    """Each `ring` wakes everybody who waits.

    Take `next` before looking at what may have changed, then wait on it: nothing is missed in between.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: trio.Event | None = None
        """None while nobody asked: most orders of a book are watched by no one."""

    @property
    def next(self) -> trio.Event:
        """Set at the next ring."""
        if self._next is None:
            self._next = trio.Event()
        return self._next

    def ring(self) -> None:
        rung, self._next = self._next, None
        if rung is not None:
            rung.set()


async def any_of(*events: trio.Event) -> None:
    """Return when one of them is set."""

    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(wait, event)
