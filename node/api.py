"""The node's HTTP API, on loopback: what it knows, as JSON, with an OpenAPI document at `/docs`.

FastAPI on Hypercorn's trio worker. Imported only where the API is switched on: it costs some 20 MB. It reads;
the one thing it takes is a signed transaction, which is as safe as gossip. It is not for the open internet: it
refuses to listen anywhere but on loopback.
"""

from __future__ import annotations

import contextlib
import enum
import ipaddress
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import hypercorn.trio
import trio
from fastapi import Body, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from hypercorn.config import Config
from starlette.exceptions import HTTPException

from fondaco import __version__
from fondaco.node.app import Node
from fondaco.node.book import said
from fondaco.protocol import addresses, codec, limits
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.records import (
    Account,
    Deployment,
    Lease,
    Provider,
    key_account,
    key_deployment,
    key_lease,
    key_provider,
)
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import DeploymentId, Height, LeaseId, OrderId, TxId

BAD_REQUEST, NOT_FOUND = 400, 404
Hex32 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="32 bytes in hexadecimal")]
Address = Annotated[str, Path(max_length=100, description="a fond1... address")]
Limit = Annotated[int, Query(ge=1, le=limits.PROVIDERS_LISTED)]


def plain(value: Any) -> Any:
    """A message or record as JSON values: bytes in hexadecimal, enumerations by name."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Attribute):
        return {value.key: value.value}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


def make_app(node: Node) -> FastAPI:
    """The application over one node."""
    app = FastAPI(title="fondaco node", version=__version__, redoc_url=None)
    _tell_errors(app)
    _serve_ledger(app, node)
    _serve_market(app, node)
    return app


def _tell_errors(app: FastAPI) -> None:
    """Whatever goes wrong is told as JSON with a stable code."""

    @app.exception_handler(FondacoError)
    async def refused(request: Request, error: FondacoError) -> JSONResponse:
        status = NOT_FOUND if error.code == "api.not_found" else BAD_REQUEST
        return JSONResponse(_told(error.code, error.message, error.hint), status_code=status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return JSONResponse(_told("api.request", f"{where}: {first['msg']}"), status_code=BAD_REQUEST)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(_told("api.route", str(error.detail)), status_code=error.status_code)


def _serve_ledger(app: FastAPI, node: Node) -> None:
    """Blocks, records and transactions."""
    chain = node.chain

    @app.get("/status")
    async def status() -> dict[str, Any]:
        return node.status()

    @app.get("/blocks/{height}")
    async def block(height: Annotated[int, Path(ge=0, le=2**62)]) -> Any:
        return _found(chain.store.block(Height(height)))

    @app.get("/accounts/{address}")
    async def account(address: Address) -> Any:
        return _found(chain.ledger.state().get(key_account(addresses.decode(address)), Account))

    @app.get("/leases/{identity}")
    async def lease(identity: Hex32) -> Any:
        return _found(chain.ledger.state().get(key_lease(LeaseId(bytes.fromhex(identity))), Lease))

    @app.get("/deployments/{identity}")
    async def deployment(identity: Hex32) -> Any:
        key = key_deployment(DeploymentId(bytes.fromhex(identity)))
        return _found(chain.ledger.state().get(key, Deployment))

    @app.get("/transactions/{identity}")
    async def transaction(identity: Hex32) -> Any:
        return _found(chain.inclusion(TxId(bytes.fromhex(identity))))

    @app.post("/transactions")
    async def submit(
        raw: Annotated[str, Body(embed=True, pattern="^([0-9a-f]{2})+$", max_length=2 * limits.TX_BYTES)],
    ) -> dict[str, str]:
        return {"id": (await node.submit(bytes.fromhex(raw))).hex()}


def _serve_market(app: FastAPI, node: Node) -> None:
    """Providers, open orders and what was answered."""

    @app.get("/providers")
    async def providers(limit: Limit = 100) -> list[Any]:
        entries = node.chain.ledger.state().scan(b"provider/", limit)
        return [_provider(codec.decode(raw, Provider)) for _, raw in entries]

    @app.get("/providers/{address}")
    async def provider(address: Address) -> Any:
        record = node.chain.ledger.state().get(key_provider(addresses.decode(address)), Provider)
        return _found(None if record is None else _provider(record))

    @app.get("/orders")
    async def orders(limit: Limit = 100) -> list[Any]:
        return [{"id": key.hex(), **plain(signed.order)} for key, signed in node.book.open_orders()[:limit]]

    @app.get("/orders/{identity}/answers")
    async def answers(identity: Hex32) -> list[Any]:
        found = node.book.answers(OrderId(bytes.fromhex(identity)))
        return [{"kind": type(said(one)).__name__.lower(), **plain(said(one))} for one in found]


def _found(record: Any) -> Any:
    """Raises `Refused` `api.not_found`."""
    if record is None:
        raise Refused("api.not_found", "there is no such record in the newest state")
    return plain(record)


def _told(code: str, message: str, hint: str = "") -> dict[str, str]:
    """The body of every answer that is not a success."""
    return {"code": code, "message": message, "hint": hint}


def _provider(record: Provider) -> Any:
    return {"address": addresses.encode(record.key), **plain(record)}


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
        await nursery.start(hypercorn.trio.serve, make_app(node), settings)
        task_status.started()
