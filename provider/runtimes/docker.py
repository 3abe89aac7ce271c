"""Workloads as containers of docker: see `engine`.

Two things docker has its own way. It takes no folder as a root: images are imported, see `docker_images`. And a
user namespace is had for all of a daemon's containers, or for none: where it has none we run nothing, since root
inside would be root outside, less its capabilities.

Docker keeps logs below its own root, as long as the container is there: links lead there from where ours lie, and
what they lead to is copied before a container is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes import bounds, lifecycle, logs, probe
from fondaco.provider.runtimes.docker_engine import Docker, default_socket
from fondaco.provider.runtimes.engine import EngineRuntime, upper_of
from fondaco.provider.runtimes.engine_client import Seen
from fondaco.provider.runtimes.launch import Launch
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.oci import ImageSource
from fondaco.provider.runtimes.port import Capability, Image, Report, quiet

IMAGES = "fondaco.images"
"""Label of what was imported from one cache, which several homes may share."""
REMAP = 'put `{"userns-remap": "default"}` into /etc/docker/daemon.json, or run docker rootless'


class DockerRuntime(EngineRuntime):
    """Runs workloads below `home` by the docker daemon at `socket`."""

    not_executed = "[FATAL tini"  # docker-init

    def __init__(
        self,
        home: Path,
        sources: Sequence[ImageSource],
        *,
        socket: Path | None = None,
        image_cache_bytes: int = bounds.IMAGE_CACHE_BYTES,
        egress: Egress = NO_EGRESS,
    ) -> None:
        cache = hashlib.sha256(str((home / "images").resolve()).encode()).hexdigest()[:12]
        self._docker = Docker(socket or default_socket(), images=f"{IMAGES}={cache}")
        super().__init__(home, sources, self._docker, image_cache_bytes=image_cache_bytes, egress=egress)
        self._importing = trio.Lock()
        """One at a time: it is the disk that takes long."""

    async def probe(self) -> Capability:
        found = await super().probe()
        await self._prune()
        return found

    async def prepare(self, reference: str, *, login: Login | None = None, report: Report = quiet) -> Image:
        """Docker has it too, then: a large image takes longer to import than a start may."""
        await super().prepare(reference, login=login, report=report)
        async with self._images.held(reference, login) as image:
            await self._admit(image)
        return image

    async def _suits(self) -> None:
        info = await self._client.info()
        options = str(info.get("SecurityOptions"))
        if "name=userns" not in options and "name=rootless" not in options:
            raise Refused(
                "runtime.unavailable",
                f"docker gives containers no user namespace: {REMAP}",
                hint="docs/how-to/use-docker.md",
            )
        if os.geteuid() and "name=rootless" not in options:
            raise Refused("runtime.unavailable", "docker runs as root, and the provider does not: run both alike")

    async def _admit(self, image: Image) -> None:
        root = Path(image.rootfs)
        name = self._docker.image_name(root)
        if await self._docker.has_image(name):
            return
        async with self._importing:
            if not await self._docker.has_image(name):
                await self._prune()
                await self._docker.import_image(name, root)

    async def _prune(self) -> None:
        """Remove images whose trees the cache has no more; that of the probe costs nothing."""
        for name in await self._docker.images():
            key = name.partition(":")[2]
            if key != probe.image_key() and not (self._home / "images" / key).is_dir():
                await self._docker.remove_image(name)

    async def leave(self) -> None:
        with contextlib.suppress(Unreachable):
            for name in await self._docker.images():
                await self._docker.remove_image(name)

    def _fits(self, run_dir: Path, seen: Seen) -> None:
        first = lifecycle.first_process(run_dir)
        upper = None if first is None else upper_of(first.pid)
        if first is None or upper is None or not _seen(upper):
            raise Refused(
                "runtime.unavailable",
                "what containers write cannot be watched: docker's storage has to be overlay2",
            )
        if seen.log is None or not _seen(seen.log):
            raise Refused("runtime.unavailable", "docker's folder cannot be seen from here, and with it no log")
        outside = int(Path(f"/proc/{first.pid}/uid_map").read_text("ascii").split()[1])
        self._owner = None if outside == os.geteuid() else outside

    def _recorded(self, launch: Launch, seen: Seen) -> None:
        if seen.log is not None:
            logs.point(launch.log_dir, seen.log)

    def _keep_log(self, workload: str) -> None:
        logs.keep(self._home / "logs" / workload)


def _seen(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
