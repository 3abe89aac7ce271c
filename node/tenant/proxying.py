"""HTTP/1.1 requests, passed on one by one: which may be said again, and what the client is told if none can be.

A request that fails before its answer has begun goes to another replica if its method is idempotent (RFC 9110,
9.2.2): saying it twice means no more than saying it once. Others go on only while nothing of them was sent. What
concerns one connection alone (RFC 9110, 7.6.1) is not passed on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import h11
import trio

from fondaco.node.tenant import bounds, routing
from fondaco.node.tenant.routing import Attempt, Router, client_address
from fondaco.node.tenant.upstreams import discard
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, Refused, Unreachable

log = logging.getLogger("fondaco.tenant")
IDEMPOTENT = (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE")
COOKIE_NAME = "fondaco-replica"
IDLE_S = 75.0
"""A client may be silent for so long between two requests, or within the head of one."""
READ_BYTES = 64 * limits.KIB
_OF_THE_CONNECTION = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Asked:
    """A request as it is to be passed on."""

    head: h11.Request
    headers: Headers
    """Without those of the connection, and of the length."""
    body: bytes | None
    """All of it; None if it is passed on as it comes, which can be done once."""
    length: bytes | None
    """Of a body that is passed on as it comes; None if it is sent in chunks."""
    wanted: str

    @property
    def again(self) -> bool:
        """Whether it may be said twice."""
        return self.head.method in IDEMPOTENT and self.body is not None


class Client:
    """The near side: one connection of a client's, one request after the other."""

    def __init__(self, router: Router, stream: trio.SocketStream) -> None:
        self.router = router
        self.stream = stream
        self.connection = h11.Connection(h11.SERVER)
        self.answered = False
        """Whether anything of the answer was sent."""

    async def request(self) -> h11.Request | None:
        """The next one; None at the end, and when this one has been silent for too long."""
        event: object = None
        with self.router.waiting() as scope:
            scope.deadline = trio.current_time() + IDLE_S
            event = await self.event()
        return event if isinstance(event, h11.Request) else None

    async def event(self) -> object:
        while True:
            event = self.connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self.connection.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.connection.receive_data(await self.stream.receive_some(READ_BYTES))

    async def body(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self.event(), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise trio.BrokenResourceError("the client left within its request")

    async def send(self, event: h11.Event) -> None:
        data = self.connection.send(event)
        if data:
            await self.stream.send_all(data)

    async def tell(self, status: int, code: str, text: str) -> None:
        """An answer of the router's own, after which the connection ends."""
        self.router.counts.failed += 1
        if self.answered or self.connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = f"fondaco route: {text} [{code}]\n".encode()
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        await self.send(h11.Response(status_code=status, headers=headers))
        await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())


async def serve_http(router: Router, stream: trio.SocketStream) -> None:
    """Serve one client until it leaves, the router drains, or nothing can be said on this connection any more."""
    client = Client(router, stream)
    while True:
        try:
            head = await client.request()
            if head is None:
                return
            if _upgrades(head):
                await client.tell(501, "route.upgrade", "other protocols are carried by --tcp")
                return
            await _pass_on(client, await _asked(client, head))
        except h11.RemoteProtocolError as error:
            await client.tell(error.error_status_hint, "route.request", f"this is no HTTP/1.1: {error}")
            return
        except h11.LocalProtocolError as error:  # what one side may say and the other may not
            log.info("a connection is given up: %s", error)
            router.counts.failed += 1
            return
        if client.connection.our_state is not h11.DONE or client.connection.their_state is not h11.DONE:
            return
        client.connection.start_next_cycle()
        client.answered = False


def _upgrades(head: h11.Request) -> bool:
    return head.method == b"CONNECT" or any(name == b"upgrade" for name, _ in head.headers)


async def _asked(client: Client, head: h11.Request) -> Asked:
    """Take a request in, with its body where that may have to be said again."""
    length = next((value for name, value in head.headers if name == b"content-length"), None)
    chunked = any(name == b"transfer-encoding" for name, _ in head.headers)
    body: bytes | None = None
    small = length is None or int(length) <= bounds.ROUTE_REPLAY_BYTES
    empty = not chunked and (length is None or int(length) == 0)
    if empty or (head.method in IDEMPOTENT and not chunked and small):
        body = b"".join([piece async for piece in client.body()])
    headers = passed_on(head.headers)
    headers = [(name, value) for name, value in headers if name not in (b"content-length", b"expect")]
    address = client_address(client.stream)
    before = [value for name, value in headers if name == b"x-forwarded-for"]
    headers = [(name, value) for name, value in headers if name != b"x-forwarded-for"]
    headers.append((b"x-forwarded-for", b", ".join([*before, address.encode()])))
    sticky = client.router.settings.sticky == routing.COOKIE
    return Asked(head, headers, body, length, cookie(head.headers) if sticky else "")


async def _pass_on(client: Client, asked: Asked) -> None:
    """Until one replica has answered, or it may not be said again."""
    router = client.router
    key, tried, last = router.client_key(client.stream), set[str](), "there is no replica"
    while (attempt := await router.begin(tried, wanted=asked.wanted, key=key)) is not None:
        exchange = _Exchange(client, asked, attempt)
        try:
            await exchange.run()
            return
        except _Broken as broken:
            last = f"{attempt.name} {broken.why}"
            attempt.failed(broken.why)
            if client.answered:
                client.router.counts.failed += 1
                raise trio.BrokenResourceError("the answer was cut short") from broken
            if exchange.sent and not asked.again:
                method = asked.head.method.decode("ascii", "replace")
                told = f"{last} before it answered, and {method} is not sent twice"
                await client.tell(502, "route.broken", told)
                return
        finally:
            router.end(attempt)
    await client.tell(503, "route.nobody", f"nobody can serve it: {last}")


class _Broken(Exception):
    """The far side failed."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Exchange:
    """One request at one replica."""

    def __init__(self, client: Client, asked: Asked, attempt: Attempt) -> None:
        self._client = client
        self._asked = asked
        self._attempt = attempt
        self.sent = False
        """Whether anything of the request may have arrived."""

    async def run(self) -> None:
        """Raises `_Broken`; and as the client's own stream does."""
        upstream = self._attempt.upstream
        if self._asked.again and (kept := upstream.kept()) is not None:
            try:
                await self._on(kept)
            except _Broken as broken:
                if self._client.answered:
                    raise
                log.debug("a kept connection had ended: %s", broken)
            else:
                return
        try:
            fresh = await upstream.connect()
        except FondacoError as error:
            raise _Broken(f"cannot be reached: {error.message} [{error.code}]") from error
        await self._on(fresh)

    async def _on(self, stream: trio.abc.HalfCloseableStream) -> None:
        connection = h11.Connection(h11.CLIENT)
        reusable = False
        try:
            response = await self._answer(stream, connection)
            self._attempt.succeeded()
            await self._give_back(stream, connection, response)
            done = connection.our_state is h11.DONE and connection.their_state is h11.DONE
            reusable = done and not connection.trailing_data[0]
        finally:
            if reusable:
                self._attempt.upstream.keep(stream)
            else:
                discard(stream)

    async def _answer(self, stream: trio.abc.HalfCloseableStream, connection: h11.Connection) -> h11.Response:
        """Send the request; the head of the answer."""
        asked = self._asked
        headers = list(asked.headers)
        if asked.body:
            headers.append((b"content-length", str(len(asked.body)).encode()))
        elif asked.body is None:
            headers.append(
                (b"transfer-encoding", b"chunked") if asked.length is None else (b"content-length", asked.length)
            )
        elif asked.length is not None:
            headers.append((b"content-length", asked.length))
        request = h11.Request(method=asked.head.method, target=asked.head.target, headers=headers)
        self.sent = True
        try:
            with trio.fail_after(self._client.router.settings.answer_s) as patience:
                await _send(stream, connection, request)
                if asked.body is None:
                    await self._stream_body(stream, connection, patience)
                else:
                    if asked.body:
                        await _send(stream, connection, h11.Data(data=asked.body))
                    await _send(stream, connection, h11.EndOfMessage())
                while isinstance(event := await _event(stream, connection), h11.InformationalResponse):
                    pass
        except trio.TooSlowError:
            raise _Broken("did not answer in time") from None
        if not isinstance(event, h11.Response):
            raise _Broken("broke off")
        return event

    async def _stream_body(
        self, stream: trio.abc.HalfCloseableStream, connection: h11.Connection, patience: trio.CancelScope
    ) -> None:
        """Pass a body on at the pace at which the client sends it, for as long as that takes."""
        patience.deadline = float("inf")
        async for piece in self._client.body():
            try:
                await _send(stream, connection, h11.Data(data=piece))
            except _Broken:
                break  # it may have answered already, and wants no more of it
        else:
            await _send(stream, connection, h11.EndOfMessage())
        patience.deadline = trio.current_time() + self._client.router.settings.answer_s

    async def _give_back(
        self, stream: trio.abc.HalfCloseableStream, connection: h11.Connection, response: h11.Response
    ) -> None:
        client, router = self._client, self._client.router
        headers = passed_on(response.headers)
        if router.settings.sticky == routing.COOKIE and self._asked.wanted != self._attempt.name:
            text = f"{COOKIE_NAME}={self._attempt.name}; Path=/; HttpOnly; SameSite=Lax"
            headers.append((b"set-cookie", text.encode()))
        if router.draining:
            headers.append((b"connection", b"close"))
        client.answered = True
        await client.send(h11.Response(status_code=response.status_code, headers=headers, reason=response.reason))
        while True:
            event = await _event(stream, connection)
            if isinstance(event, h11.Data):
                await client.send(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                router.counts.requests += 1
                await client.send(h11.EndOfMessage())
                return
            else:
                raise _Broken("broke off within its answer")


async def _send(stream: trio.abc.HalfCloseableStream, connection: h11.Connection, event: h11.Event) -> None:
    """To the far side. Raises `_Broken`."""
    data = connection.send(event)
    if data:
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise _Broken("broke off") from error


async def _event(stream: trio.abc.HalfCloseableStream, connection: h11.Connection) -> object:
    """Of the far side. Raises `_Broken`."""
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(READ_BYTES)))
    except trio.BrokenResourceError as error:
        raise _Broken("broke off") from error
    except h11.RemoteProtocolError as error:
        raise _Broken(f"does not speak HTTP/1.1: {error}") from error
    return event


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without what concerns one connection alone."""
    found = [(bytes(name), bytes(value)) for name, value in headers]
    named = {
        one.strip().lower() for name, value in found if name == b"connection" for one in value.split(b",") if one
    }
    return [(name, value) for name, value in found if name not in _OF_THE_CONNECTION | named]


def cookie(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The replica that served this client before; empty if it does not say."""
    for name, value in headers:
        if name == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, replica = pair.strip().partition("=")
                if key == COOKIE_NAME:
                    return replica
    return ""


async def ask(stream: trio.abc.HalfCloseableStream, path: str) -> int:
    """A probe: the status of an answer to a GET. Raises `Unreachable` `route.unwell` for none, and from 500 on."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("host", "localhost"), ("connection", "close"), ("user-agent", "fondaco-route")]
    try:
        await _send(stream, connection, h11.Request(method="GET", target=path, headers=headers))
        await _send(stream, connection, h11.EndOfMessage())
        event = await _event(stream, connection)
    except _Broken as broken:
        raise unwell(f"it {broken.why}") from None
    except h11.LocalProtocolError as error:
        raise Refused("http.path", f"{path!r} is no path to ask for: {error}") from None
    if not isinstance(event, h11.Response) or event.status_code >= 500:
        said = f"it answers {event.status_code}" if isinstance(event, h11.Response) else "it does not answer"
        raise unwell(said)
    return event.status_code


def unwell(why: str) -> Unreachable:
    return Unreachable("route.unwell", why)
