"""Talking to one registry about one image (OCI distribution spec 1.1).

Whoever answers may be hostile: bodies are read up to a bound, redirects are followed a few times, and credentials
go to the registry they are for and to the token server it names, by HTTPS or where the operator allows plain HTTP,
and never along with a redirect to another host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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
    async def open(self, method: str, what: str, **headers: str) -> AsyncIterator[httpx.Response]:
        """The answer about `what`, such as `manifests/1.2`: of status 200 or 206, its body not read yet.

        Raises `Refused` `image.not_found`, `image.credentials`, `image.redirect`, `image.answer` or
        `image.address`; `TryAgain`; and `Unreachable` `image.unreachable`.
        """
        url = self._base.join(f"/v2/{self._reference.path}/{what}")
        asked = False
        for _ in range(bounds.REGISTRY_REDIRECTS + 2):  # and one more for who asks
            ours = _origin(url) == _origin(self._base)
            shown = {"Authorization": self._authorization} if ours and self._authorization else {}
            response = await self._send(method, url, {**headers, **shown})
            try:
                if response.status_code in REDIRECTS:
                    url = self._redirected(url, response.headers.get("location", ""))
                elif response.status_code == 401 and ours and not asked:
                    asked = True
                    self._authorization = await self._answer(
                        challenges(response.headers.get_list("www-authenticate"))
                    )
                else:
                    self._check(response)
                    yield response
                    return
            finally:
                await _close(response)
        raise Refused("image.redirect", f"{self._reference.host} redirects without end")

    async def read(self, method: str, what: str, limit: int, **headers: str) -> tuple[httpx.Headers, bytes]:
        """Headers and the whole body.  Raises what `open` does, and `Refused` `image.limit` for a longer one."""
        async with self.open(method, what, **headers) as response:
            return response.headers, await self._body(response, limit)

    async def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body as it comes.  Raises `TryAgain` where it is torn."""
        try:
            async for chunk in response.aiter_raw(bounds.REGISTRY_CHUNK_BYTES):
                yield chunk
        except httpx.TransportError as error:
            raise TryAgain(f"{self._reference.host} broke off: {_told(error)}") from None

    async def _body(self, response: httpx.Response, limit: int) -> bytes:
        body = b""
        async for chunk in self.chunks(response):
            body += chunk
            if len(body) > limit:
                raise Refused("image.limit", f"{self._reference.host} answers with more than {limit} bytes")
        return body

    async def _send(self, method: str, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        try:
            return await self._client.send(
                self._client.build_request(method, url, headers=headers), stream=True, auth=None
            )
        except (httpx.TransportError, httpx.InvalidURL, httpx.RemoteProtocolError) as error:
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

    async def _answer(self, offered: tuple[Challenge, ...]) -> str:
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
        response = await self._send("GET", url, {"Authorization": basic(self._login)} if self._login else {})
        try:
            if response.status_code in TRANSIENT:
                raise TryAgain(f"{url.host} answers {response.status_code}", after_s=_retry_after(response))
            if response.status_code != 200:
                raise self._denied(f"is not vouched for by {url.host}, which answers {response.status_code}")
            token = token_of(await self._body(response, bounds.REGISTRY_TOKEN_BYTES))
        finally:
            await _close(response)
        if token is None:
            raise Refused("image.answer", f"{url.host} gives no token")
        return token

    def _check(self, response: httpx.Response) -> None:
        status, host = response.status_code, self._reference.host
        if status in (200, 206):
            return
        if status in TRANSIENT:
            raise TryAgain(f"{host} answers {status}", after_s=_retry_after(response))
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


async def _close(response: httpx.Response) -> None:
    """Also when cancelled: a connection in the middle of a body is of no use to anyone."""
    with trio.CancelScope(shield=True):
        await response.aclose()


def _retry_after(response: httpx.Response) -> float:
    """In seconds; a date is not looked at."""
    said = response.headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() else 0.0


def _told(error: Exception) -> str:
    return str(error)[:100] or type(error).__name__
