"""The guard around stream handlers: the one place in the project that catches every exception (hardening 1).

Whatever leaves a stream handler cancels the whole swarm and takes the node down. So what a handler raises is
judged here and goes no further: a peer's fault is scored, its going is nobody's, and anything else is a bug of
ours, counted and logged. Our own cancellation passes; where it comes in one group with errors, because a peer went
in the moment in which we stop, it passes without them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fondaco.node.groups import leaves
from fondaco.node.network.host_counters import HostCounters
from fondaco.node.network.peers import PeerId
from fondaco.protocol.errors import PeerFault, Refused, Unreachable

log = logging.getLogger(__name__)
Handler = Callable[[Any], Awaitable[None]]


class Guard:
    """Runs the handlers of one host."""

    def __init__(self, counters: HostCounters, blame: Callable[[PeerId, PeerFault], None]) -> None:
        self._counters = counters
        self._blame = blame

    async def run(self, peer: PeerId, handler: Handler, stream: Any) -> None:
        """Raises `Unreachable` `stream.failed` for whatever the handler raises, and what cancels us as it is."""
        try:
            await handler(stream)
        except Exception as error:  # noqa: BLE001 - see above
            self._judge(peer, error)
            raise Unreachable("stream.failed", f"a stream of {peer} failed") from None
        except BaseExceptionGroup as group:
            errors, cancelled = group.split(Exception)
            assert cancelled is not None, "a group of errors alone is an error"
            if errors is not None:
                self._judge(peer, errors)
            raise cancelled from None

    def _judge(self, peer: PeerId, error: Exception) -> None:
        ours = False
        for leaf in leaves(error):
            if isinstance(leaf, PeerFault):
                self._blame(peer, leaf)
            elif not isinstance(leaf, (Refused, Unreachable)):
                ours = True
        if ours:
            self._counters.handler_errors += 1
            log.error("a stream handler failed on a stream of %s", peer, exc_info=error)
