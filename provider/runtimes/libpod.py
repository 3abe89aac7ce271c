"""Podman's own REST interface (libpod, version 4) over its unix socket: containers, and nothing else of it."""

from __future__ import annotations

import os
from pathlib import Path

from fondaco.provider.runtimes.engine_client import EngineClient
from fondaco.provider.runtimes.launch import Launch
from fondaco.provider.runtimes.podman_container import specification


def default_socket() -> Path:
    """Where podman's service listens unless told otherwise."""
    if os.geteuid() == 0:
        return Path("/run/podman/podman.sock")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "podman" / "podman.sock"


class Libpod(EngineClient):
    name = "podman"
    ended = ("exited", "stopped")
    conditions = ("exited", "stopped")
    start_it = "`systemctl enable --now podman.socket`, or `podman system service --time=0`, starts it"

    async def base(self) -> str:
        return "http://podman/v4.0.0/libpod"

    async def version(self) -> str:
        return str((await self.info()).get("version", {}).get("Version", ""))

    async def create(self, launch: Launch, label: str, *, init: bool) -> None:
        await self.call("POST", "/containers/create", json=specification(launch, label, init=init))

    async def init(self, name: str) -> bool:
        await self.call("POST", f"/containers/{name}/init")
        return True
