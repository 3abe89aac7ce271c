"""Connected peers are told when we begin to serve another protocol (identify/push).

Ours need no telling, they ask for what they want and ask again. Others, go-libp2p's gossip among them, open a
stream only for a protocol that its owner has named; and a peer may be connected before all our services are up.

https://github.com/libp2p/specs/blob/master/identify/README.md#identifypush
"""

from __future__ import annotations

from typing import Any

import trio

from fondaco.protocol import limits

PAUSE_S = 0.2
"""js-libp2p takes one push of a connection at a time, and resets another that comes too soon."""


class Announcer:
    """Pushes what we serve now, once for all that has begun in a short while. `run` it in a nursery."""

    def __init__(self, basic: Any) -> None:
        self._basic = basic
        self._changed = trio.Event()

    def changed(self) -> None:
        """We serve something more, or something less."""
        self._changed.set()

    async def run(self) -> None:
        """For ever. Whoever cannot be told in time is not told."""
        from libp2p.identity.identify_push.identify_push import push_identify_to_peer

        # Or ten that do not answer would keep it from the others.
        at_once = trio.CapacityLimiter(limits.CONNECTIONS)
        while True:
            await self._changed.wait()
            await trio.sleep(PAUSE_S)
            self._changed = trio.Event()
            with trio.move_on_after(limits.OPEN_STREAM_TIMEOUT_MS / 1000):
                async with trio.open_nursery() as nursery:
                    for peer in self._basic.get_connected_peers():
                        nursery.start_soon(push_identify_to_peer, self._basic, peer, None, at_once)
