"""Talking to one registry about one image (OCI distribution spec 1.1).

Whoever answers may be hostile: bodies are read up to a bound, redirects are followed a few times, and credentials
go to the registry they are for and to the token server it names, by HTTPS or where the operator allows plain HTTP,
and never along with a redirect to another host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self, TypeVar

import httpx
import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.provider.images.challenges import Challenge, basic, challenges, token_of
from fondaco.provider.images.guarded import GuardedTransport
from fondaco.provider.images.references import Reference
from fondaco.provider.images.registries import Login, Registries
from fondaco.provider.runtimes import bounds

T = TypeVar("T")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "fondaco"}


class TryAgain(Unreachable):
    """It may work in a moment."""

    def __init__(self, message: str, *, after_s: float = 0.0) -> None:
        super().__init__("image.unreachable", message, hint="try again later")
        self.after_s = after_s
        """As the registry asks."""


async def persistently(work: Callable[[], Awaitable[T]]) -> T:
    """Do `work`, and do it again when it raises `Unreachable`, with growing pauses, a bounded number of times."""
    first, longest = bounds.REGISTRY_RETRY_S
    for attempt in range(bounds.REGISTRY_ATTEMPTS - 1):
        try:
            return await work()
        except Unreachable as failure:
            asked_s = failure.after_s if isinstance(failure, TryAgain) else 0.0
            await trio.sleep(min(longest, max(asked_s, first * 2**attempt)))
    return await work()


class Answer:
    """What a registry answers: its headers, and its body as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response
        self._parts: AsyncIterator[bytes] | None = None

    async def chunk(self) -> bytes:
        """The next part of the body; empty at its end.  Raises `TryAgain` where it is torn, or drips."""
        if self._parts is None:
            self._parts = self._response.aiter_raw(bounds.REGISTRY_CHUNK_BYTES)
        try:
            with trio.fail_after(bounds.REGISTRY_CHUNK_S):
                return await anext(self._parts, b"")
        except trio.TooSlowError:
            raise TryAgain(f"{self._response.url.host} is too slow") from None
        except httpx.TransportError as error:
            raise TryAgain(f"{self._response.url.host} broke off: {_told(error)}") from None

    async def body(self, limit: int) -> bytes:
        """All of it.  Raises `TryAgain`, and `Refused` `image.limit` for more than `limit` bytes."""
        body = b""
        while chunk := await self.chunk():
            body += chunk
            if len(body) > limit:
                raise Refused("image.limit", f"{self._response.url.host} answers with more than {limit} bytes")
        return body

    async def aclose(self) -> None:
        """Also when cancelled; a connection in the middle of a body is closed and not used again."""
        with trio.CancelScope(shield=True):
            await self._response.aclose()
            if self._parts is not None:
                # Its iterators are nested and end from within: by what is buffered, then by the closed socket.
                with suppress(httpx.TransportError):
                    async for _ in self._parts:
                        pass


class RegistrySession:
    """The registry of `reference`, asked by `login` if it wants to know who asks.  Use it as a context manager."""

    def __init__(self, registries: Registries, reference: Reference, login: Login | None) -> None:
        self._registries = registries
        self._reference = reference
        self._login = login
        self._base = httpx.URL(registries.base_url(reference))
        self._authorization = ""
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(registries),
            timeout=httpx.Timeout(bounds.REGISTRY_READ_S, connect=bounds.REGISTRY_CONNECT_S, pool=None),
            follow_redirects=False,
            trust_env=False,
            headers=HEADERS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await self._client.aclose()

    @asynccontextmanager
    async def open(self, method: str, what: str, **headers: str) -> AsyncIterator[Answer]:
        """The answer about `what`, such as `manifests/1.2`: of status 200 or 206, its body not read yet.

        Raises `Refused` `image.not_found`, `image.credentials`, `image.redirect`, `image.answer` or
        `image.address`; `TryAgain`; and `Unreachable` `image.unreachable`.
        """
        url = self._base.join(f"/v2/{self._reference.path}/{what}")
        asked = False
        for _ in range(bounds.REGISTRY_REDIRECTS + 2):  # and one more for who asks
            ours = _origin(url) == _origin(self._base)
            shown = {"Authorization": self._authorization} if ours and self._authorization else {}
            answer = await self._send(method, url, {**headers, **shown})
            try:
                if answer.status in REDIRECTS:
                    url = self._redirected(url, answer.headers.get("location", ""))
                elif answer.status == 401 and ours and not asked:
                    asked = True
                    self._authorization = await self._show_who(
                        challenges(answer.headers.get_list("www-authenticate"))
                    )
                else:
                    self._check(answer)
                    yield answer
                    return
            finally:
                await answer.aclose()
        raise Refused("image.redirect", f"{self._reference.host} redirects without end")

    async def read(self, method: str, what: str, limit: int, **headers: str) -> tuple[httpx.Headers, bytes]:
        """Headers and the whole body.  Raises what `open` does, and `Refused` `image.limit` for a longer one."""
        async with self.open(method, what, **headers) as answer:
            return answer.headers, await answer.body(limit)

    async def _send(self, method: str, url: httpx.URL, headers: dict[str, str]) -> Answer:
        request = self._client.build_request(method, url, headers=headers)
        try:
            return Answer(await self._client.send(request, stream=True, auth=None))
        except httpx.TransportError as error:
            raise TryAgain(f"{url.host} does not answer: {_told(error)}") from None

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            target = url.join(location)
        except httpx.InvalidURL:
            target = httpx.URL("")
        plain = target.scheme == "http" and self._registries.plain(target.netloc.decode("ascii"))
        if not target.host or target.userinfo or not (plain or target.scheme == "https"):
            raise Refused("image.redirect", f"{url.host} redirects to {location[:100]!r}")
        return target

    async def _show_who(self, offered: tuple[Challenge, ...]) -> str:
        """An `Authorization` header for what the registry wants to see."""
        for challenge in offered:
            if challenge.scheme == "bearer" and challenge.realm:
                return f"Bearer {await self._token(challenge)}"
        if any(challenge.scheme == "basic" for challenge in offered) and self._login is not None:
            return basic(self._login)
        raise self._denied("wants to know who asks")

    async def _token(self, challenge: Challenge) -> str:
        url = self._redirected(self._base, challenge.realm)
        scope = challenge.scope or f"repository:{self._reference.path}:pull"
        url = url.copy_merge_params({"service": challenge.service, "scope": scope})
        answer = await self._send("GET", url, {"Authorization": basic(self._login)} if self._login else {})
        try:
            if answer.status in TRANSIENT:
                raise TryAgain(f"{url.host} answers {answer.status}", after_s=_retry_after(answer))
            if answer.status != 200:
                raise self._denied(f"is not vouched for by {url.host}, which answers {answer.status}")
            token = token_of(await answer.body(bounds.REGISTRY_TOKEN_BYTES))
        finally:
            await answer.aclose()
        if token is None:
            raise Refused("image.token", f"{url.host} gives no token")
        return token

    def _check(self, answer: Answer) -> None:
        status, host = answer.status, self._reference.host
        if status in (200, 206):
            return
        if status in TRANSIENT:
            raise TryAgain(f"{host} answers {status}", after_s=_retry_after(answer))
        if status in (401, 403):
            raise self._denied(f"answers {status}")
        if status == 404:
            raise Refused("image.not_found", f"{host} has no image {self._reference}")
        raise Refused("image.answer", f"{host} answers {status} when asked for {self._reference}")

    def _denied(self, why: str) -> Refused:
        known = "with these credentials" if self._login else "without credentials"
        return Refused(
            "image.credentials",
            f"{self._reference.host} {why}: {self._reference} is not to be had {known}",
            hint="is the name right? private images need `credentials` for their registry's host",
        )


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _retry_after(answer: Answer) -> float:
    """In seconds; a date is not looked at."""
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else 0.0


def _told(error: BaseException) -> str:
    """What is known of it: the innermost one says most."""
    cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
    return _told(cause) if cause is not None else str(error)[:200] or type(error).__name__
