"""The interface over a unix socket that podman and docker share in all but details: containers, by HTTP.

Both answer in JSON, and name a container's state alike. Where nobody answers, `Unreachable` `AWAY` is raised: that
says nothing about containers. What an engine refuses is `Refused`, with its words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes.launch import Launch
from fondaco.provider.runtimes.logs import moment
from fondaco.provider.runtimes.port import AWAY

T = TypeVar("T")
TIMEOUT_S = 60.0
ANSWER_CHARACTERS = 500
REMOVE_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
AWAY_PAUSES_S = (0.1, 5.0)
"""First and longest, before an engine that is away is asked again how a container is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an engine says of a container."""

    pid: int
    """Of its first process; 0 unless it runs."""
    started_at: Millis
    exit_code: int | None
    """None unless it has ended."""
    out_of_memory: bool
    log: Path | None
    """Where its log lies, if the engine keeps it itself."""


class EngineClient(ABC):
    """A client of one engine; it may be used by several tasks at once."""

    name = ""
    ended: tuple[str, ...] = ("exited",)
    """How it calls containers that ran and run no more."""
    conditions: tuple[str, ...] = ("exited",)
    """What to wait for, until one does not run."""
    start_it = ""
    """What an operator may do if it is away."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        self._http = httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S)

    async def info(self) -> dict[str, Any]:
        """Of the service and its machine."""
        return dict(await self.call("GET", "/info"))

    @abstractmethod
    async def version(self) -> str:
        """Of the engine."""

    @abstractmethod
    async def create(self, launch: Launch, label: str, *, init: bool) -> None:
        """`init`: a first process that passes signals on, as bwrap has one, and not the workload itself."""

    async def init(self, name: str) -> bool:
        """Make its namespaces and all else, short of running it; False where the engine cannot."""
        await trio.lowlevel.checkpoint()
        return False

    async def start(self, name: str) -> None:
        await self.call("POST", f"/containers/{name}/start")

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """All of a container, or None if there is none of that name."""
        found = await self.call("GET", f"/containers/{name}/json", missing=True)
        return None if found is None else dict(found)

    async def see(self, name: str) -> Seen | None:
        """How a container is, or None if there is none of that name."""
        found = await self.inspect(name)
        if found is None:
            return None
        state: dict[str, Any] = found.get("State", {})
        return Seen(
            pid=int(state.get("Pid") or 0),
            started_at=moment(str(state.get("StartedAt", ""))) or Millis(0),
            exit_code=int(state.get("ExitCode", 0)) if state.get("Status") in self.ended else None,
            out_of_memory=bool(state.get("OOMKilled")),
            log=Path(found["LogPath"]) if found.get("LogPath") else None,
        )

    async def wait(self, name: str) -> None:
        """Return once it does not run, or is not there."""
        params = [("condition", one) for one in self.conditions]
        await self.call("POST", f"/containers/{name}/wait", missing=True, params=params, timeout=None)

    async def remove(self, name: str) -> None:
        """End it if it runs, and remove it; one that is not there is no error.

        An engine cleans up by itself after one that ended, and the two get into each other's way: we try again.
        """
        for pause in (*REMOVE_PAUSES_S, None):
            try:
                params = {"force": "true", "v": "true"}
                await self.call("DELETE", f"/containers/{name}", missing=True, params=params)
            except Refused:
                if pause is None:
                    raise
                await trio.sleep(pause)
            else:
                return

    async def names(self, label: str) -> tuple[str, ...]:
        """Of all containers with `label`, running or not."""
        params = {"all": "true", "filters": f'{{"label":["{label}"]}}'}
        found = await self.call("GET", "/containers/json", params=params)
        return tuple(str(one["Names"][0]).removeprefix("/") for one in found or ())

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: str, *, missing: bool = False, **more: Any) -> Any:
        """What it answers; with `missing`, None for what is not there.  Raises `Refused` and `Unreachable`."""
        answer = await self.request(method, await self.base() + path, **more)
        if answer.status_code == httpx.codes.NOT_FOUND and missing:
            return None
        try:
            told = answer.json() if answer.content else {}
        except ValueError:
            told = {"message": answer.text}
        if answer.is_error:
            message = told.get("message") if isinstance(told, dict) else None
            raise self.refused(str(message or answer.status_code))
        return told

    @abstractmethod
    async def base(self) -> str:
        """What all paths begin with."""

    async def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        try:
            return await self._http.request(method, url, **more)
        except httpx.HTTPError as error:
            why = f"{self.name} does not answer at {self.socket}: {error or type(error).__name__}"
            raise Unreachable(AWAY, f"{why}; {self.start_it}") from None

    def refused(self, message: str) -> Refused:
        return Refused(f"runtime.{self.name}", message[:ANSWER_CHARACTERS])


async def until_back(do: Callable[[], Awaitable[T]]) -> T:
    """Do it, again as often as the engine is away."""
    pause, longest = AWAY_PAUSES_S
    while True:
        try:
            return await do()
        except Unreachable:
            await trio.sleep(pause)
            pause = min(longest, 2 * pause)
