"""The swarm's notices of connections that came and went, as two plain calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from libp2p.abc import INotifee

Notice = Callable[[Any], None]


class Notices(INotifee):  # type: ignore[misc]
    """Upstream's interface has six methods; two of them matter here. `overran`: it ended for an ignored window."""

    def __init__(self, came: Notice, went: Notice, overran: Notice) -> None:
        self._came = came
        self._went = went
        self._overran = overran

    async def connected(self, network: Any, conn: Any) -> None:
        self._came(conn.muxed_conn.peer_id)

    async def disconnected(self, network: Any, conn: Any) -> None:
        if conn.muxed_conn.overruns:
            self._overran(conn.muxed_conn.peer_id)
        self._went(conn.muxed_conn.peer_id)

    async def opened_stream(self, network: Any, stream: Any) -> None: ...

    async def closed_stream(self, network: Any, stream: Any) -> None: ...

    async def listen(self, network: Any, multiaddr: Any) -> None: ...

    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...
