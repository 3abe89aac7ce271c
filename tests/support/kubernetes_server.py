"""Answers of an API server that a real one gives seldom: overloads, conflicts, broken watches; over real sockets.

It is no API server and knows no objects: each test writes down what is answered, in order. What a real one does is
tested against a real one, see tests/kubernetes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request

from fondaco.provider.runtimes.kubernetes.access import access
from fondaco.provider.runtimes.kubernetes.client import ApiServer

Answer = Callable[[trio.SocketStream, bytes], Awaitable[None]]


def status(code: int, message: str = "", *, reason: str = "", retry_after: str = "") -> Answer:
    """A `Status`, as a server says what is wrong."""
    body = {"kind": "Status", "code": code, "message": message, "reason": reason}
    return reply(code, body, f"Retry-After: {retry_after}\r\n" if retry_after else "")


def reply(code: int, body: Any, headers: str = "") -> Answer:
    async def answer(stream: trio.SocketStream, request: bytes) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {code} Said\r\nContent-Length: {len(data)}\r\nConnection: close\r\n{headers}\r\n"
        await stream.send_all(head.encode() + data)

    return answer


def events(*told: Any, broken: bool = False) -> Answer:
    """A watch: an event a line; `broken`: the connection is cut in the middle of the answer."""

    async def answer(stream: trio.SocketStream, request: bytes) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for one in told:
            data = json.dumps(one).encode() + b"\n"
            await stream.send_all(b"%x\r\n%s\r\n" % (len(data), data))
        await stream.send_all(b"40\r\n{" if broken else b"0\r\n\r\n")

    return answer


def channels(*messages: tuple[int, bytes] | None, protocol: str = "v4.channel.k8s.io", hear: int = 0) -> Answer:
    """A WebSocket: messages on channels, None for a ping; `hear` of the client's before the last of them."""

    async def answer(stream: trio.SocketStream, request: bytes) -> None:
        connection = WSConnection(ConnectionType.SERVER)
        connection.receive_data(request)
        (asked,) = connection.events()
        assert isinstance(asked, Request)
        await stream.send_all(connection.send(AcceptConnection(subprotocol=protocol)))
        heard: list[bytes] = []
        for number, message in enumerate(messages):
            while number == len(messages) - 1 and len(heard) < hear:
                connection.receive_data(bytes(await stream.receive_some()))
                heard += [bytes(one.data) for one in connection.events() if isinstance(one, BytesMessage)]
            if message is None:
                await stream.send_all(connection.send(Ping(payload=b"there?")))
            else:
                data = bytes([message[0]]) + message[1].replace(b"HEARD", b"|".join(heard))
                await stream.send_all(connection.send(BytesMessage(data=data)))
        await stream.send_all(connection.send(CloseConnection(code=1000)))

    return answer


async def hang_up(stream: trio.SocketStream, request: bytes) -> None:
    """No answer at all."""


@dataclass
class Server:
    """What it is asked, and the answers that are still to be given: the last one again and again."""

    api: ApiServer
    answers: list[Answer]
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        server = Server(ApiServer(access(f"http://127.0.0.1:{port}", None, None)), list(answers))
        nursery.start_soon(partial(trio.serve_listeners, partial(_serve, server), listeners))
        yield server
        await server.api.aclose()
        nursery.cancel_scope.cancel()


async def _serve(server: Server, stream: trio.SocketStream) -> None:
    async with stream:
        request = b""
        while b"\r\n\r\n" not in request:
            data = await stream.receive_some()
            if not data:
                return
            request += bytes(data)
        head, _, body = request.partition(b"\r\n\r\n")
        sizes = [
            line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        while sizes and len(body) < int(sizes[0]):
            body += bytes(await stream.receive_some())
        server.asked.append(" ".join(head.decode().split("\r\n")[0].split()[:2]))
        server.bodies.append(body)
        answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        await answer(stream, request)
