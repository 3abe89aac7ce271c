"""Connections to an API server that are not over in a moment: answers that go on for hours, by h11.

httpx is for all else. An answer that is left off in the middle is closed with its connection here, at once and
by whoever left it off.
"""

from __future__ import annotations

import math
from urllib.parse import urlencode, urlsplit

import h11
import trio

from fondaco.protocol.errors import Unreachable
from fondaco.protocol.limits import KIB
from fondaco.provider.runtimes.kubernetes.access import Access
from fondaco.provider.runtimes.port import AWAY

CONNECT_S = 15.0
READ_BYTES = 64 * KIB
BROKEN = (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError)


def away(why: str) -> Unreachable:
    return Unreachable(AWAY, f"the cluster's API server: {why}"[:500], hint="workloads go on")


async def open_stream(access: Access) -> trio.abc.Stream:
    """A connection, with TLS.  Raises one of `BROKEN`."""
    parts = urlsplit(access.server)
    host, tls = parts.hostname or "", access.tls()
    with trio.fail_after(CONNECT_S):
        stream: trio.abc.Stream = await trio.open_tcp_stream(host, parts.port or (443 if tls else 80))
        if tls is None:
            return stream
        secure = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(secure)
            raise
        return secure


class Answer:
    """To a GET; its body comes piece by piece."""

    def __init__(self, stream: trio.abc.Stream, read_s: float) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT)
        self._read_s = read_s
        self.status = 0

    async def ask(self, access: Access, path: str, params: dict[str, str], headers: dict[str, str]) -> None:
        """Send the request, and hear what the answer begins with."""
        target = f"{path}?{urlencode(params)}"
        request = h11.Request(
            method="GET", target=target, headers=[("Host", urlsplit(access.server).netloc), *headers.items()]
        )
        try:
            with trio.fail_after(CONNECT_S):
                for event in (request, h11.EndOfMessage()):
                    await self._stream.send_all(self._connection.send(event) or b"")
                while not isinstance(answer := await self._next(), h11.Response):
                    if isinstance(answer, h11.EndOfMessage | h11.ConnectionClosed):
                        raise away(f"{path}: no answer")
        except BROKEN as error:
            raise away(f"{path}: {error or type(error).__name__}") from None
        self.status = answer.status_code

    async def receive(self) -> bytes:
        """The next of it; empty at its end.  Raises `Unreachable` `AWAY` where it breaks off."""
        try:
            with trio.fail_after(self._read_s):
                while True:
                    match await self._next():
                        case h11.Data(data=data):
                            return bytes(data)
                        case h11.EndOfMessage() | h11.ConnectionClosed():
                            return b""
        except BROKEN as error:
            raise away(f"an answer broke off: {error or type(error).__name__}") from None

    async def _next(self) -> object:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
        await trio.lowlevel.checkpoint()
        return event


class Lines:
    """Iterates over the lines of an answer, without their ends; one longer than `most` comes in parts."""

    def __init__(self, answer: Answer, most: int) -> None:
        self._answer = answer
        self._most = most
        self._kept = bytearray()
        self._over = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        while (found := self._cut()) is None:
            if self._over:
                raise StopAsyncIteration
            data = await self._answer.receive()
            self._kept += data
            self._over = not data
        return found

    def _cut(self) -> bytes | None:
        end = self._kept.find(b"\n", 0, self._most + 1)
        if end >= 0:
            found = bytes(self._kept[:end])
            del self._kept[: end + 1]
            return found
        if len(self._kept) > self._most or (self._over and self._kept):
            found = bytes(self._kept[: self._most])
            del self._kept[: self._most]
            return found
        return None


FOREVER = math.inf
