"""`/metrics`: what Prometheus scrapes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from fondaco.node.app import Node
from fondaco.node.metrics.exposition import CONTENT_TYPE, exposition, registry_of
from fondaco.node.metrics.machine import Disk


class Exposition(Response):
    media_type = "text/plain"


def serve_metrics(app: FastAPI, node: Node) -> None:
    disk = Disk()
    registry = registry_of(node, disk)

    @app.get("/metrics", response_class=Exposition)
    async def metrics() -> Any:
        """What it counts and measures, in the text format of Prometheus."""
        await disk.look(node.config.data)
        return Response(exposition(registry), headers={"content-type": CONTENT_TYPE})
