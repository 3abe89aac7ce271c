"""Workloads as containers of podman: see `engine`.  Its conmon, which outlives it, writes logs where we say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.engine import EngineRuntime
from fondaco.provider.runtimes.libpod import Libpod, default_socket
from fondaco.provider.runtimes.network import NO_EGRESS, Egress
from fondaco.provider.runtimes.oci import ImageSource


class PodmanRuntime(EngineRuntime):
    """Runs workloads below `home` by the podman service at `socket`."""

    not_executed = "failed to exec pid1"  # so catatonit says it

    def __init__(
        self,
        home: Path,
        sources: Sequence[ImageSource],
        *,
        socket: Path | None = None,
        image_cache_bytes: int = bounds.IMAGE_CACHE_BYTES,
        egress: Egress = NO_EGRESS,
    ) -> None:
        client = Libpod(socket or default_socket())
        super().__init__(home, sources, client, image_cache_bytes=image_cache_bytes, egress=egress)
