"""Routes over the node's part in the network: peers, meshes, bans, and why a peer is not there."""

from __future__ import annotations

from typing import Annotated, Any

import trio
from fastapi import Depends, FastAPI, Query
from pydantic import Field

from fondaco.node.api.models import Page, Strict, model_of, plain
from fondaco.node.api.operator import operator_only
from fondaco.node.api.problems import OPERATOR
from fondaco.node.app import Node
from fondaco.node.net import bans, mesh, peers
from fondaco.node.net.standing import standing
from fondaco.node.net.why import Answer, why
from fondaco.protocol import limits

PeerQuery = Annotated[str, Query(max_length=100, description="12D3KooW...")]
Limit = Annotated[int, Query(ge=1, le=limits.CONNECTIONS)]
Cursor = Annotated[str | None, Query(max_length=100, description="`next` of the page before")]
SUBJECT = "a peer id, or a network: 203.0.113.0/24, 2001:db8:1::/48"
SubjectQuery = Annotated[str, Query(min_length=1, max_length=100, description=SUBJECT)]
LONGEST_BAN_S = 10 * 366 * 86_400
REASON_CHARACTERS = 200
PeerModel = model_of(peers.PeerRow)
MeshModel = model_of(mesh.TopicMesh)
BanModel = model_of(bans.BanRow)


class NewBan(Strict):
    """Whom to keep out, why and for how long."""

    subject: str = Field(min_length=1, max_length=100, description=SUBJECT)
    reason: str = Field(min_length=1, max_length=REASON_CHARACTERS)
    seconds: int = Field(default=3_600, ge=1, le=LONGEST_BAN_S)


class Lifted(Strict):
    subject: str


def serve_net(app: FastAPI, node: Node, token: str) -> None:
    """`token` is what the operator shows; nobody does if it is empty."""
    _serve_views(app, node)
    _serve_bans(app, node, token)


def _serve_views(app: FastAPI, node: Node) -> None:
    @app.get("/net/peers", response_model=Page[PeerModel])  # type: ignore[valid-type]
    async def connected(limit: Limit = 100, cursor: Cursor = None) -> Any:
        """Connected peers by id: where, since when, how fast, score, streams and queues."""
        known = peers.topics_by_peer(node)
        chosen = [one for one in sorted(node.host.peers()) if cursor is None or one > cursor]
        now = trio.current_time()
        items = [plain(peers.row(node, one, now, known.get(one, ()))) for one in chosen[:limit]]
        return {"items": items, "next": chosen[limit - 1] if len(chosen) > limit else None}

    @app.get("/net/mesh", response_model=list[MeshModel])  # type: ignore[valid-type]
    async def meshes() -> Any:
        """Each topic: its mesh, who waits outside, and what came of its messages."""
        return plain(mesh.mesh(node))

    @app.get("/net/why-not", response_model=model_of(Answer))
    async def why_not(peer: PeerQuery) -> Any:
        """Everything that stands in the way of a peer's connection, of its place in a mesh, or of hearing it."""
        return plain(why(standing(node, peer)))


def _serve_bans(app: FastAPI, node: Node, token: str) -> None:
    guard = [Depends(operator_only(token))]

    @app.get("/net/bans", response_model=list[BanModel])  # type: ignore[valid-type]
    async def banned() -> Any:
        """Peers and networks that are kept out, the newest last."""
        return plain(bans.bans(node))

    @app.post("/net/bans", response_model=BanModel, dependencies=guard, responses=OPERATOR)
    async def ban(new: NewBan) -> Any:
        """Keep a peer or a network out, until then or the node's next start. For the node's operator."""
        return plain(bans.ban(node, new.subject, new.reason, new.seconds * 1_000))

    @app.delete("/net/bans", response_model=Lifted, dependencies=guard, responses=OPERATOR)
    async def lift(subject: SubjectQuery) -> Any:
        """Let a peer or a network in again. For the node's operator."""
        return {"subject": bans.lift(node, subject)}
