"""Docker's Engine API over its unix socket: containers, and the images that they are of."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.docker_container import specification
from fondaco.provider.runtimes.docker_images import archive
from fondaco.provider.runtimes.engine_client import EngineClient
from fondaco.provider.runtimes.launch import Launch

OLDEST, NEWEST = (1, 41), (1, 52)
"""Versions of the interface that we speak: of docker 20.10 and of 29."""
OURS = "1.41 (docker 20.10) to 1.52"


def default_socket() -> Path:
    """Where docker's daemon listens unless told otherwise."""
    return Path("/var/run/docker.sock")


class Docker(EngineClient):
    name = "docker"
    ended = ("exited", "dead")
    conditions = ("not-running",)
    start_it = "`systemctl enable --now docker` starts it"

    def __init__(self, socket: Path, *, images: str = "") -> None:
        """`images`: a label that says which cache they were imported from, `<name>=<value>`."""
        super().__init__(socket)
        self._base = ""
        self._images = images
        self._repository = f"fondaco/{images.partition('=')[2]}"

    async def base(self) -> str:
        """With the version that both sides know; asked for anew after the daemon was away."""
        if not self._base:
            told = _document((await self.request("GET", "http://docker/version")).text)
            both = spoken(told)
            if both is None:
                theirs = f"{told.get('MinAPIVersion')} to {told.get('ApiVersion')}"
                raise self.refused(f"it speaks versions {theirs} of its interface, and we speak {OURS}")
            self._base = f"http://docker/v{both}"
        return self._base

    async def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        try:
            return await super().request(method, url, **more)
        except BaseException:
            self._base = ""
            raise

    async def version(self) -> str:
        return str((await self.call("GET", "/version")).get("Version", ""))

    async def create(self, launch: Launch, label: str, *, init: bool) -> None:
        image = self.image_name(Path(launch.image.rootfs))
        wanted = specification(launch, image, label, init=init)
        await self.call("POST", "/containers/create", params={"name": launch.spec.id}, json=wanted)

    def image_name(self, root: Path) -> str:
        """Of the image whose tree is at `root`, whether it was imported or not."""
        return f"{self._repository}:{root.name}"

    async def has_image(self, name: str) -> bool:
        return await self.call("GET", f"/images/{name}/json", missing=True) is not None

    async def import_image(self, name: str, root: Path) -> None:
        """Have all below `root` as the image `name`; whole, or not at all."""
        repository, _, tag = name.partition(":")
        params = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": f"LABEL {self._images}"}
        try:
            answer = await self.request(
                "POST",
                await self.base() + "/images/create",
                params=params,
                content=_streamed(archive(root)),
                headers={"Content-Type": "application/x-tar"},
                timeout=bounds.IMAGE_PULL_TIMEOUT_S,
            )
        except OSError as error:
            raise self.refused(f"an image cannot be read: {error.strerror or error}") from None
        # What goes wrong later is told after 200 as well, in a line of its own.
        told = [_document(line) for line in answer.text.splitlines()]
        wrong = next((one for one in told if "error" in one or answer.is_error), None)
        if wrong is not None:
            raise self.refused(str(wrong.get("error") or wrong.get("message") or answer.status_code))

    async def images(self) -> tuple[str, ...]:
        """Names of all that were imported from the cache; not those that others gave them besides."""
        params = {"filters": f'{{"label":["{self._images}"]}}'}
        found = await self.call("GET", "/images/json", params=params)
        names = [str(name) for one in found or () for name in one.get("RepoTags") or ()]
        return tuple(name for name in names if name.startswith(self._repository + ":"))

    async def remove_image(self, name: str) -> None:
        """Unless it is in use, or gone."""
        try:
            await self.call("DELETE", f"/images/{name}", missing=True)
        except Refused:
            return  # a container is of it: another time


def spoken(told: dict[str, Any]) -> str | None:
    """The newest version of the interface that both sides know, from what `/version` told, or None."""
    oldest, newest = _version(told, "MinAPIVersion"), min(NEWEST, _version(told, "ApiVersion"))
    return f"{newest[0]}.{newest[1]}" if newest >= max(OLDEST, oldest) else None


def _version(told: dict[str, Any], which: str) -> tuple[int, int]:
    major, _, minor = str(told.get(which, "")).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _document(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"message": line}
    return found if isinstance(found, dict) else {}


async def _streamed(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (part := await trio.to_thread.run_sync(next, parts, None)) is not None:
        yield part
