"""Podman's own REST interface (libpod, version 4) over its unix socket: containers, and nothing else of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import trio

from fondaco.protocol.errors import Refused

BASE = "http://podman/v4.0.0/libpod"
TIMEOUT_S = 60.0
ANSWER_CHARACTERS = 500
REMOVE_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
HINT = "start podman's service: `systemctl enable --now podman.socket`, or `podman system service --time=0`"


def default_socket() -> Path:
    """Where podman's service listens unless told otherwise."""
    if os.geteuid() == 0:
        return Path("/run/podman/podman.sock")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "podman" / "podman.sock"


class Libpod:
    """A client; it may be used by several tasks at once."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        self._http = httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S)

    async def info(self) -> dict[str, Any]:
        """Of the service and its machine."""
        return dict(await self._call("GET", "/info"))

    async def create(self, specification: dict[str, Any]) -> None:
        await self._call("POST", "/containers/create", json=specification)

    async def init(self, name: str) -> None:
        """Make its namespaces and all else, short of running it."""
        await self._call("POST", f"/containers/{name}/init")

    async def start(self, name: str) -> None:
        await self._call("POST", f"/containers/{name}/start")

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """All of a container, or None if there is none of that name."""
        found = await self._call("GET", f"/containers/{name}/json", missing=True)
        return None if found is None else dict(found)

    async def wait(self, name: str) -> None:
        """Return once it does not run, or is not there."""
        params = [("condition", one) for one in ("exited", "stopped")]
        await self._call("POST", f"/containers/{name}/wait", missing=True, params=params, timeout=None)

    async def remove(self, name: str) -> None:
        """End it if it runs, and remove it; one that is not there is no error.

        Podman cleans up by itself after one that ended, and the two get into each other's way: it is tried again.
        """
        for pause in (*REMOVE_PAUSES_S, None):
            try:
                params = {"force": "true", "v": "true"}
                await self._call("DELETE", f"/containers/{name}", missing=True, params=params)
            except Refused:
                if pause is None:
                    raise
                await trio.sleep(pause)
            else:
                return

    async def names(self, label: str) -> tuple[str, ...]:
        """Of all containers with `label`, running or not."""
        params = {"all": "true", "filters": f'{{"label":["{label}"]}}'}
        found = await self._call("GET", "/containers/json", params=params)
        return tuple(str(one["Names"][0]) for one in found or ())

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _call(self, method: str, path: str, *, missing: bool = False, **more: Any) -> Any:
        """What it answers; with `missing`, None for what is not there.  Raises `Refused` `runtime.podman`."""
        try:
            answer = await self._http.request(method, BASE + path, **more)
        except httpx.HTTPError as error:
            raise Refused(
                "runtime.podman", f"{self._socket}: {error or type(error).__name__}", hint=HINT
            ) from None
        if answer.status_code == httpx.codes.NOT_FOUND and missing:
            return None
        try:
            told = answer.json() if answer.content else {}
        except ValueError:
            told = {"message": answer.text}
        if answer.is_error:
            message = told.get("message") if isinstance(told, dict) else None
            raise Refused("runtime.podman", str(message or answer.status_code)[:ANSWER_CHARACTERS])
        return told
