"""Peers that are dialled whenever they are not connected, with growing pauses."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from fondaco.node.network.peers import PeerId
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused, Unreachable

if TYPE_CHECKING:
    from fondaco.node.network.host import Host


async def keep_connected(host: Host, peer: PeerId) -> None:
    """For ever."""
    shortest, longest = (ms / 1000 for ms in limits.REDIAL_MS)
    delay = shortest
    while True:
        began = trio.current_time()
        with contextlib.suppress(Unreachable, Refused):
            await host.connect(host.dialled_at(peer))
            while host.is_connected(peer):
                await host.wait_for_change()
        # One that hangs up at once is dialled ever more seldom, too.
        lasted = trio.current_time() - began
        delay = shortest if lasted > longest else delay
        host.contacts.retry(peer, trio.current_time() + delay)
        await trio.sleep(delay)
        delay = min(delay * 2, longest)
