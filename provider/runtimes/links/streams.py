"""Connections between services: bytes both ways, at the pace of whoever reads them.

Each direction holds one buffer; while that is not empty nothing more is read. An end of one side's sending is
passed on when all before it has been. What fails on one side is a reset on the other.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

BUFFER_BYTES = 65_536
CONNECT_S = 2.0
"""For a replica to take a connection, before the next one is asked."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

Ready = Callable[[int], None]
"""Called with what a socket is ready for."""


class Loop:
    """What sockets are waited for, and what is called then."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._wanted: dict[int, tuple[int, Ready]] = {}

    def want(self, fd: int, events: int, ready: Ready) -> None:
        """From now on; 0 for nothing: such a socket is not looked at, not even for its end."""
        before = self._wanted.get(fd)
        if before == (events, ready) or (before is None and not events):
            return
        if not events:
            self.forget(fd)
            return
        if before is None:
            self._selector.register(fd, events, ready)
        else:
            self._selector.modify(fd, events, ready)
        self._wanted[fd] = events, ready

    def close(self) -> None:
        """Let go of what the kernel keeps for it."""
        self._selector.close()

    def forget(self, fd: int) -> None:
        """Before it is closed."""
        if self._wanted.pop(fd, None) is not None:
            self._selector.unregister(fd)

    def turn(self, seconds: float | None) -> None:
        """Wait at most so long, and call whoever is ready."""
        for key, events in self._selector.select(seconds):
            # Of a socket that was closed within this turn another one may have the number.
            if self._wanted.get(key.fd, (0, None))[1] == key.data:
                key.data(events)


class _Half:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.buffer = memoryview(b"")
        self.ended = False
        """Nothing more comes."""
        self.done = False
        """And the other side knows."""

    def read(self) -> None:
        if self.buffer or self.ended:
            return
        try:
            data = self.source.recv(BUFFER_BYTES)
        except BlockingIOError:
            return
        self.ended = not data
        self.buffer = memoryview(data)

    def write(self) -> None:
        """Raises `OSError` if the other side is gone."""
        while self.buffer:
            try:
                sent = self.sink.send(self.buffer)
            except BlockingIOError:
                return
            self.buffer = self.buffer[sent:]
        if self.ended and not self.done:
            self.done = True
            with suppress(OSError):
                self.sink.shutdown(socket.SHUT_WR)


class Connection:
    """One client's, from the moment that it was accepted."""

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        candidates: Iterator[tuple[socket.socket, int]],
        over: Callable[[Connection], None],
    ) -> None:
        """`candidates`: sockets to connect with, of one replica after the other, and the port of each."""
        self._loop = loop
        self._client = client
        self._server: socket.socket | None = None
        self._candidates = candidates
        self._over = over
        self._halves: tuple[_Half, _Half] | None = None
        self.deadline: float | None = None
        """Until when the replica that is being asked has time."""
        client.setblocking(False)

    def next(self) -> None:
        """Ask the next replica; with none left the client is told that nobody took it."""
        self._drop_server()
        for server, port in self._candidates:
            self._server, self.deadline = server, time.monotonic() + CONNECT_S
            try:
                server.connect(("127.0.0.1", port))
            except BlockingIOError:
                pass
            except OSError:
                self._drop_server()
                continue
            self._loop.want(server.fileno(), WRITE, self._connected)
            return
        self.abort()

    def _connected(self, _: int) -> None:
        assert self._server is not None, "that it waits for"
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.next()
            return
        self.deadline = None
        for one in (self._client, self._server):
            with suppress(OSError):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._halves = _Half(self._client, self._server), _Half(self._server, self._client)
        self._pump()

    def _pump(self, _: int = 0) -> None:
        assert self._halves is not None, "connected"
        try:
            for half in self._halves:
                half.read()
                half.write()
        except OSError:
            self.abort()
            return
        if all(half.done for half in self._halves):
            self.close()
            return
        there, back = self._halves
        for one, reading, writing in ((there.source, there, back), (back.source, back, there)):
            events = 0 if reading.ended or reading.buffer else READ
            self._loop.want(one.fileno(), events | (WRITE if writing.buffer else 0), self._pump)

    def abort(self) -> None:
        """End it at once, both ways, as a connection that was reset."""
        for one in (self._client, self._server):
            if one is not None:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._drop_server()
        if self._client.fileno() >= 0:
            self._loop.forget(self._client.fileno())
            self._client.close()
            self._over(self)

    def _drop_server(self) -> None:
        if self._server is not None:
            self._loop.forget(self._server.fileno())
            self._server.close()
            self._server = None
