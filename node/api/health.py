"""`/health`: for supervisors, load balancers and probes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import Field

from fondaco.node import health
from fondaco.node.api.models import Strict
from fondaco.node.app import Node
from fondaco.protocol.errors import Unreachable


class Healthy(Strict):
    """What a node says that does all that it is there for."""

    parts: dict[str, str] = Field(description="how each part of it is, for people")


def serve_health(app: FastAPI, node: Node) -> None:
    @app.get("/health", response_model=Healthy)
    async def healthy() -> Any:
        """Whether it does what it is there for; what does not is named in the problem `node.unhealthy`."""
        found = await health.parts(node)
        wrong = "; ".join(f"{part.name}: {part.detail}" for part in found if not part.healthy)
        if wrong:
            raise Unreachable("node.unhealthy", wrong)
        return {"parts": {part.name: part.detail for part in found}}
