"""A cluster's API server over HTTP: what is asked, answered, watched and streamed.

Whatever keeps the server from answering is `Unreachable` `port.AWAY`: no connection, an overload, a token that it
does not take, rights that we lack. None of it says anything about workloads. What it answers about an object is
`Refused`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import KIB, MIB
from fondaco.provider.runtimes.kubernetes.access import Access
from fondaco.provider.runtimes.kubernetes.wire import BROKEN, Answer, Lines, away, open_stream

Object = dict[str, Any]
MANAGER = "fondaco"
APPLY = "application/apply-patch+yaml"
"""JSON is YAML."""
TIMEOUT_S = 30.0
WATCH_S = 240
"""After so long a watch is ended by the server, and begun anew."""
ATTEMPTS_S = (0.2, 0.5, 1.0)
"""Pauses before what an overloaded server did not do is asked again; more, and it counts as away."""
RETRY_AFTER_S = 5.0
"""So long we wait at most where it says how long."""
EVENT_BYTES = 4 * MIB
"""Of one event of a watch: objects are of 1.5 MiB at most."""
PAGE = 500
MESSAGE_CHARACTERS = 500
REFUSAL_BYTES = 64 * KIB


class Gone(Exception):
    """What was watched or listed lies too far back: begin anew."""


class ApiServer:
    """A client; it may be used by several tasks at once."""

    def __init__(self, access: Access) -> None:
        self.access = access
        tls = access.tls()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(
            base_url=access.server,
            verify=True if tls is None else tls,
            timeout=TIMEOUT_S,
            limits=limits,
            trust_env=False,
        )

    def headers(self) -> dict[str, str]:
        token = self.access.token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def get(self, path: str, **params: str) -> Object | None:
        """What lies there, or None."""
        return await self._call("GET", path, params=params, missing=True)

    async def all(self, path: str, **params: str) -> list[Object]:
        """All items, however many pages they fill."""
        while True:
            with contextlib.suppress(Gone):  # a page came too late, and the others with it
                return await self._pages(path, params)

    async def _pages(self, path: str, params: Mapping[str, str]) -> list[Object]:
        items: list[Object] = []
        more = {"limit": str(PAGE), **params}
        while True:
            found = await self._call("GET", path, params=more)
            assert found is not None, "only with `missing`"
            items += found.get("items") or ()
            token = (found.get("metadata") or {}).get("continue")
            if not token:
                return items
            more["continue"] = token

    async def apply(self, path: str, wanted: Object) -> Object:
        """Have it there, and as `wanted` says of what it says (server-side apply)."""
        params = {"fieldManager": MANAGER, "force": "true"}
        found = await self._call("PATCH", path, params=params, json=wanted, kind=APPLY)
        assert found is not None, "only with `missing`"
        return found

    async def create(self, path: str, wanted: Object) -> Object | None:
        """Make it, or None if there is one of that name."""
        return await self._call("POST", path, params={"fieldManager": MANAGER}, json=wanted, conflict=True)

    async def delete(self, path: str, *, grace_s: int | None = None) -> Object | None:
        """Have it removed; it may take its time. None if it was not there."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        return await self._call("DELETE", path, json=options, missing=True)

    async def watch(self, path: str, version: str, **params: str) -> AsyncGenerator[tuple[str, Object], None]:
        """What happens to objects after `version`: `ADDED`, `MODIFIED` or `DELETED`, and the object.

        It ends when the server ends it. Raises `Gone` where the server no longer knows that far back.
        """
        wanted = {"watch": "true", "timeoutSeconds": str(WATCH_S), "resourceVersion": version, **params}
        async with self.stream(path, read_s=WATCH_S + TIMEOUT_S, **wanted) as answer:
            async for line in Lines(answer, EVENT_BYTES):
                event = _json(line)
                kind, thing = event.get("type"), event.get("object")
                if not isinstance(kind, str) or not isinstance(thing, dict):
                    raise away(f"{path}: no event of a watch")
                if kind == "ERROR":
                    if thing.get("code") == httpx.codes.GONE:
                        raise Gone
                    raise away(_message(thing) or "the watch broke")
                if kind != "BOOKMARK":
                    yield kind, thing

    @asynccontextmanager
    async def stream(self, path: str, *, read_s: float, **params: str) -> AsyncIterator[Answer]:
        """An answer as it comes; `read_s` without any of it is too long.  Raises as all else does."""
        try:
            stream = await open_stream(self.access)
        except BROKEN as error:
            raise away(f"{self.access.server}: {error or type(error).__name__}") from None
        try:
            answer = Answer(stream, read_s)
            await answer.ask(self.access, path, params, self.headers())
            if answer.status != httpx.codes.OK:
                why = bytearray()
                while len(why) < REFUSAL_BYTES and (data := await answer.receive()):
                    why += data
                _judge(httpx.Response(answer.status, content=bytes(why)), path)
            yield answer
        finally:
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        missing: bool = False,
        conflict: bool = False,
        kind: str = "application/json",
        json: Object | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Object | None:
        headers = self.headers() | ({} if json is None else {"Content-Type": kind})
        for pause in (*ATTEMPTS_S, None):
            try:
                answer = await self._http.request(
                    method, path, params=params, headers=headers, content=None if json is None else _text(json)
                )
            except httpx.TransportError as error:
                raise away(f"{self.access.server}: {error or type(error).__name__}") from None
            if (answer.status_code == 404 and missing) or (
                answer.status_code == 409 and conflict and _reason(answer) == "AlreadyExists"
            ):
                return None
            if pause is None or not _comes_to_pass(answer):
                break
            await trio.sleep(_pause(answer, pause))
        _judge(answer, path)
        return _json(answer.content)


def _text(thing: Object) -> bytes:
    return json.dumps(thing).encode()


def _json(data: bytes) -> Object:
    try:
        found = json.loads(data)
    except ValueError:
        raise away("the server answers with what is no JSON") from None
    if not isinstance(found, dict):
        raise away("the server answers with no object")
    return found


def _comes_to_pass(answer: httpx.Response) -> bool:
    """Whether it may go well another time: too much to do, a quota being counted, a race of two writers."""
    code = answer.status_code
    if code == 403:
        return "exceeded quota" in answer.text or "status unknown for quota" in answer.text
    return code in (429, 500, 502, 503, 504) or (code == 409 and _reason(answer) != "AlreadyExists")


def _pause(answer: httpx.Response, otherwise: float) -> float:
    said = answer.headers.get("retry-after", "")
    return min(RETRY_AFTER_S, float(said)) if said.isdigit() else otherwise


def _judge(answer: httpx.Response, path: str) -> None:
    """Raises for what is no answer to what was asked."""
    code = answer.status_code
    if answer.is_success:
        return
    told = _message(_status(answer)) or f"status {code}"
    if code == 410:
        raise Gone
    if code == 404:
        raise Refused("workload.gone", told)
    # Of all that is forbidden, only what is for lack of rights is told in these words; the rest is about objects.
    ours = code == 401 or (code == 403 and " cannot " in told)
    if ours:
        raise away(f"the cluster does not let us: {told}")
    if code == 429 or code >= 500:
        raise away(told)
    raise Refused("runtime.kubernetes", f"{path.rpartition('/')[2]}: {told}"[:MESSAGE_CHARACTERS])


def _status(answer: httpx.Response) -> Object:
    try:
        found = json.loads(answer.content)
    except ValueError:
        return {"message": answer.text}
    return found if isinstance(found, dict) else {}


def _reason(answer: httpx.Response) -> str:
    return str(_status(answer).get("reason") or "")


def _message(status: Mapping[str, Any]) -> str:
    return str(status.get("message") or "")[:MESSAGE_CHARACTERS]
