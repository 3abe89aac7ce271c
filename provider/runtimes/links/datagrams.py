"""Datagrams between services: each client of a port has a socket of its own at a replica, while it speaks."""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from fondaco.provider.runtimes.links.streams import READ, Loop

DATAGRAM_BYTES = 65_535
IDLE_S = 60.0
"""A client that was not heard of for so long is forgotten."""
FLOWS = 128
"""Clients of one port; the one that was silent longest makes room."""
BURST = 64
"""Datagrams taken at a time, before others have their turn."""

Address = tuple[str, int]


class DatagramPort:
    """One port of one service, as one workload sees it."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        candidates: Callable[[], Iterator[tuple[socket.socket, int]]],
        now: Callable[[], float],
    ) -> None:
        """`candidates`: as for connections; `now`: the time in seconds."""
        self._loop = loop
        self._listener = listener
        self._candidates = candidates
        self._now = now
        self._flows: OrderedDict[Address, tuple[socket.socket, float]] = OrderedDict()
        """Last heard of first."""
        loop.want(listener.fileno(), READ, self._heard)

    @property
    def flows(self) -> int:
        """Clients that it knows."""
        return len(self._flows)

    def _heard(self, _: int) -> None:
        for _ in range(BURST):
            try:
                data, client = self._listener.recvfrom(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # what an answer of ours met
            upstream = self._flow(client)
            if upstream is not None:
                try:
                    upstream.send(data)
                except BlockingIOError:
                    pass  # lost, as datagrams may be
                except OSError:
                    self._end(client)  # nobody listens there: the next one goes to another replica

    def _flow(self, client: Address) -> socket.socket | None:
        known = self._flows.get(client)
        if known is not None:
            self._flows[client] = known[0], self._now()
            self._flows.move_to_end(client)
            return known[0]
        for upstream, port in self._candidates():
            try:
                upstream.connect(("127.0.0.1", port))
            except OSError:
                upstream.close()
                continue
            if len(self._flows) >= FLOWS:
                self._end(next(iter(self._flows)))
            self._flows[client] = upstream, self._now()
            self._loop.want(upstream.fileno(), READ, partial(self._answered, client, upstream))
            return upstream
        return None

    def _answered(self, client: Address, upstream: socket.socket, _: int) -> None:
        for _ in range(BURST):
            try:
                data = upstream.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._end(client)
                return
            self._flows[client] = upstream, self._now()
            self._flows.move_to_end(client)
            with suppress(OSError):
                self._listener.sendto(data, client)

    def expire(self) -> None:
        """Forget who has been silent for long."""
        while self._flows:
            client, (_, heard) = next(iter(self._flows.items()))
            if self._now() - heard < IDLE_S:
                return
            self._end(client)

    def _end(self, client: Address) -> None:
        upstream, _ = self._flows.pop(client)
        self._loop.forget(upstream.fileno())
        upstream.close()

    def close(self) -> None:
        for client in list(self._flows):
            self._end(client)
        self._loop.forget(self._listener.fileno())
        self._listener.close()
