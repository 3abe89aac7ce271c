"""A WebSocket to an API server: messages whose first byte names a channel (`channel.k8s.io`).

Built on wsproto, which is sans-IO: a connection needs no task behind it, so one can be given away as a stream.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import KIB
from fondaco.provider.runtimes.kubernetes.client import ApiServer
from fondaco.provider.runtimes.kubernetes.wire import BROKEN, CONNECT_S, away, open_stream

READ_BYTES = 64 * KIB
CHUNK_BYTES = 32 * KIB
"""Sent at a time: servers take no larger messages."""
WHY_BYTES = 8 * KIB
CLOSE_S = 2.0


class Socket:
    """An open connection. One task may receive while others send."""

    def __init__(self, stream: trio.abc.Stream, connection: WSConnection) -> None:
        self._stream = stream
        self._connection = connection
        self._sending = trio.Lock()
        self._ready: list[tuple[int, bytes]] = []
        self._channel: int | None = None
        """Of the message that is coming; None between two."""
        self._over = False
        self.protocol = ""
        """The one that the server chose."""

    async def send(self, channel: int, data: bytes) -> None:
        """Raises `trio.BrokenResourceError` and `trio.ClosedResourceError`."""
        for start in range(0, max(1, len(data)), CHUNK_BYTES):
            part = bytes([channel]) + data[start : start + CHUNK_BYTES]
            async with self._sending:
                if self._over:
                    raise trio.BrokenResourceError("the server has closed it")
                await self._stream.send_all(self._connection.send(BytesMessage(data=part)))

    async def receive(self) -> tuple[int, bytes] | None:
        """A channel and what came on it, in pieces of any size; None at the end.  It may be cancelled.

        Raises `trio.BrokenResourceError` where the connection broke off.
        """
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._over:
                return None
            data = await self._stream.receive_some(READ_BYTES)
            try:
                self._connection.receive_data(bytes(data) or None)
                await self._take()
            except ProtocolError as error:
                raise trio.BrokenResourceError(str(error)) from None
        return self._ready.pop(0)

    async def _take(self) -> None:
        for event in self._connection.events():
            match event:
                case BytesMessage(data=data, message_finished=finished):
                    self._sort(bytes(data), finished)
                case TextMessage(data=text, message_finished=finished):
                    self._sort(text.encode(), finished)
                case Ping():
                    await self._answer(event.response())
                case CloseConnection():
                    self._over = True

    async def _answer(self, pong: Pong) -> None:
        """Whole, though whoever receives is cancelled meanwhile."""
        with trio.move_on_after(CLOSE_S) as scope:
            scope.shield = True
            async with self._sending:
                await self._stream.send_all(self._connection.send(pong))
                return
        self._over = True

    def _sort(self, data: bytes, finished: bool) -> None:
        if self._channel is None and data:
            self._channel, data = data[0], data[1:]
        if self._channel is not None and (data or finished):
            self._ready.append((self._channel, data))
        if finished:
            self._channel = None

    async def aclose(self) -> None:
        """Say goodbye, but do not wait for an answer."""
        with trio.move_on_after(CLOSE_S) as scope:
            scope.shield = True
            if not self._over:
                self._over = True
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
                    await self._stream.send_all(self._connection.send(CloseConnection(code=1000)))
        await trio.aclose_forcefully(self._stream)


async def connect(
    api: ApiServer, path: str, params: Sequence[tuple[str, str]], protocols: Sequence[str]
) -> Socket:
    """Open one of `protocols`, the first that the server speaks.

    Raises `Unreachable` `AWAY`, and `Refused` `workload.gone` for a pod that is not there or does not run.
    """
    target = f"{path}?{urlencode(params)}"
    try:
        stream = await open_stream(api.access)
        try:
            with trio.fail_after(CONNECT_S):
                return await _shake(stream, api, urlsplit(api.access.server).netloc, target, protocols)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    except (*BROKEN, ProtocolError) as error:
        raise away(f"{api.access.server}: {error or type(error).__name__}") from None


async def _shake(
    stream: trio.abc.Stream, api: ApiServer, netloc: str, target: str, protocols: Sequence[str]
) -> Socket:
    connection = WSConnection(ConnectionType.CLIENT)
    headers = [(name.encode(), value.encode()) for name, value in api.headers().items()]
    request = Request(host=netloc, target=target, subprotocols=list(protocols), extra_headers=headers)
    await stream.send_all(connection.send(request))
    socket, refused, why = Socket(stream, connection), 0, bytearray()
    while True:
        data = await stream.receive_some(READ_BYTES)
        connection.receive_data(bytes(data) or None)
        for event in connection.events():
            match event:
                case AcceptConnection(subprotocol=chosen):
                    socket.protocol = chosen or ""
                    await socket._take()
                    return socket
                case RejectConnection(status_code=code):
                    refused = code
                    if not event.has_body:
                        raise _refusal(code, "")
                case RejectData(data=body, body_finished=finished):
                    why += body[: WHY_BYTES - len(why)]
                    if finished:
                        raise _refusal(refused, why.decode("utf-8", "replace"))
        if not data:
            raise _refusal(refused or math.inf, why.decode("utf-8", "replace"))


def _refusal(code: float, why: str) -> Refused | Unreachable:
    if code in (400, 404, 409) or (code == 500 and ("not running" in why or "not found" in why)):
        return Refused("workload.gone", "the workload does not run", hint="look at its status")
    return away(f"it refuses a connection: {code} {why[:300]}")
