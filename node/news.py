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


async def any_of(*events: trio.Event) -> None:
    """Return when one of them is set."""

    async def wait(event: trio.Event) -> None:
        await event.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(wait, event)
