"""The node's HTTP API, on loopback: what it knows, as JSON, with an OpenAPI document at `/docs`.

FastAPI on Hypercorn's trio worker. Imported only where the API is switched on: it costs some 20 MB. It reads;
it takes signed transactions, which is as safe as gossip, and bans from the node's operator alone
(`node.api.operator`). It is not for the open internet: it refuses to listen anywhere but on loopback.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress

import hypercorn.trio
import trio
from fastapi import FastAPI
from hypercorn.config import Config

from fondaco import __version__
from fondaco.node.api.book import serve_book
from fondaco.node.api.health import serve_health
from fondaco.node.api.ledger import serve_ledger
from fondaco.node.api.market import serve_market
from fondaco.node.api.metrics import serve_metrics
from fondaco.node.api.models import plain
from fondaco.node.api.net import serve_net
from fondaco.node.api.operator import make_token
from fondaco.node.api.problems import RESPONSES, document, tell_problems
from fondaco.node.app import Node
from fondaco.protocol.errors import Refused

__all__ = ["make_app", "plain", "serve_api"]

ABOUT = """What one node knows. Money is ucredit, millionths of a credit; moments are milliseconds since 1970;
ids are hexadecimal. Lists come in pages: give `next` as `cursor` for what follows. `/market` is what it remembers,
where its `node.toml` says `market = true`; all else is the newest state."""


def make_app(node: Node, token: str = "") -> FastAPI:
    """The application over one node; who shows `token` is its operator, nobody if it is empty."""
    app = FastAPI(
        title="fondaco node", version=__version__, description=ABOUT, redoc_url=None, responses=RESPONSES
    )
    app.openapi = functools.partial(document, app)  # type: ignore[method-assign]
    tell_problems(app)
    serve_health(app, node)
    serve_ledger(app, node)
    serve_book(app, node)
    serve_market(app, node)
    serve_net(app, node, token)
    serve_metrics(app, node)
    return app


async def serve_api(node: Node, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled. Raises `Refused` `api.address` for an address that is not loopback."""
    host, _, port = node.config.api.rpartition(":")
    loopback = False
    with contextlib.suppress(ValueError):
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    if not loopback or not port.isdigit():
        raise Refused("api.address", f"api = {node.config.api!r} is not a loopback address, IP:PORT")
    settings = Config()
    settings.bind = [node.config.api]
    settings.errorlog = None
    settings.graceful_timeout = 1.0
    async with trio.open_nursery() as nursery:
        await nursery.start(hypercorn.trio.serve, make_app(node, make_token(node.config.data)), settings)
        task_status.started()
