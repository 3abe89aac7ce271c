"""Replicas of a service as a router sees them: real servers on loopback that can be broken in every way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import h11
import trio

from fondaco.node.tenant.routing import Router
from fondaco.node.tenant.upstreams import Upstream
from fondaco.protocol.errors import Unreachable


@dataclass
class Replica:
    """Answers each request with its name, the method and the body; and as it is told, not at all."""

    name: str
    port: int = 0
    away: bool = False
    """It takes no connections."""
    breaks: str = ""
    """`head`: it takes a request and is gone; `body`: within its answer; `status`: it answers 500."""
    delay_s: float = 0.0
    heard: list[str] = field(default_factory=list)
    """`GET /path`, one a request; probes apart."""
    last: dict[bytes, bytes] = field(default_factory=dict)
    """Headers of the last one."""
    connections: int = 0
    release: trio.Event = field(default_factory=trio.Event)
    """For /slow."""

    async def dial(self) -> trio.SocketStream:
        if self.away:
            raise Unreachable("channel.unreachable", f"{self.name} is away")
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def upstream(self, identity: str = "") -> Upstream:
        return Upstream(name=self.name, identity=identity or f"lease of {self.name}", dial=self.dial)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            async with stream:
                while await self._one(stream, connection):
                    connection.start_next_cycle()

    async def _one(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        head: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        headers = dict(head.headers)
        probe = headers.get(b"user-agent") == b"fondaco-route"
        if not probe:
            self.heard.append(f"{head.method.decode()} {head.target.decode()}")
            self.last = headers
        if self.breaks == "head":
            return False
        await trio.sleep(self.delay_s)
        if head.target == b"/slow":
            await self.release.wait()
        text = f"{self.name} {head.method.decode()} {body.decode()}".encode()
        status = 500 if self.breaks == "status" else 200
        given: list[tuple[str, str]] = [] if head.target == b"/chunked" else [("content-length", str(len(text)))]
        await self._say(stream, connection, h11.Response(status_code=status, headers=given))
        if head.method != b"HEAD":
            if self.breaks == "body":
                await self._say(stream, connection, h11.Data(data=text[:3]))
                return False
            await self._say(stream, connection, h11.Data(data=text))
        await self._say(stream, connection, h11.EndOfMessage())
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _say(self, stream: trio.SocketStream, connection: h11.Connection, event: h11.Event) -> None:
        await stream.send_all(connection.send(event) or b"")


@asynccontextmanager
async def replicas(count: int) -> AsyncIterator[list[Replica]]:
    """So many, `app.0`, `app.1`, ..., listening."""
    found = [Replica(f"app.{number}") for number in range(count)]
    async with trio.open_nursery() as nursery:
        for one in found:
            serve = partial(trio.serve_tcp, one.serve, 0, host="127.0.0.1")
            listeners = await nursery.start(serve)
            one.port = listeners[0].socket.getsockname()[1]
        yield found
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def routed(router: Router, found: list[Replica]) -> AsyncIterator[int]:
    """A router in front of replicas; its port."""
    router.update({one.name: one.upstream() for one in found})
    async with trio.open_nursery() as nursery:
        yield await nursery.start(router.serve, "127.0.0.1", 0)
        nursery.cancel_scope.cancel()
