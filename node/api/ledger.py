"""Routes over the chain: how the node is, blocks, records of the newest state, transactions, projections."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, FastAPI, Path
from pydantic import Field

from fondaco.node.api.models import HEX, Strict, Submitted, model_of, plain
from fondaco.node.api.problems import not_found
from fondaco.node.app import Node
from fondaco.node.measures import measures
from fondaco.node.projections import Projection, project
from fondaco.protocol import addresses, limits
from fondaco.protocol.agreement import Block
from fondaco.protocol.records import Account, Deployment, Lease, key_account, key_deployment, key_lease
from fondaco.protocol.scalars import DeploymentId, Height, LeaseId, TxId

Hex32 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="32 bytes in hexadecimal")]
Address = Annotated[str, Path(max_length=100, description="a fond1... address")]
HeightPath = Annotated[int, Path(ge=0, le=2**62)]


class Status(Strict):
    """How the node is."""

    name: str
    chain: str
    height: int
    head: str = Field(pattern=HEX, description="hash of the newest header")
    time_ms: int = Field(description="block time of the newest block")
    peer: str
    peers: int = Field(description="connected ones")
    mempool: int = Field(description="transactions that wait")
    orders: int = Field(description="in the book")
    validator: bool
    provider: bool
    finality_p50_ms: float | None = Field(description="median time from proposal to commit; none yet at the start")
    market_height: int | None = Field(description="newest block in the market database; none where there is none")


class Outcome(Strict):
    """What became of a transaction."""

    height: int
    code: str = Field(description="empty where its messages took effect")
    message: str


class Measures(Strict):
    """What the node counted of its own work since its start."""

    height: int
    cpu_ms: float
    decided: int
    decision_ms: list[float]
    host: dict[str, int]
    consensus: dict[str, int]
    proposals: dict[str, int]
    gossip: dict[str, int]
    mesh: dict[str, int]
    reach: dict[str, int]
    book: dict[str, int]
    discovery: dict[str, int]


def serve_ledger(app: FastAPI, node: Node) -> None:
    _serve_chain(app, node)
    _serve_records(app, node)


def _serve_chain(app: FastAPI, node: Node) -> None:
    chain = node.chain

    @app.get("/status", response_model=Status)
    async def status() -> Any:
        """How this node is."""
        return node.status()

    @app.get("/measures", response_model=Measures)
    async def measured() -> Any:
        """What it counted of its work."""
        return measures(node)

    @app.get("/blocks/{height}", response_model=model_of(Block))
    async def block(height: HeightPath) -> Any:
        """A block that is kept here."""
        return _found(chain.store.block(Height(height)), "block")

    @app.get("/transactions/{identity}", response_model=Outcome)
    async def transaction(identity: Hex32) -> Any:
        """What became of a recent transaction."""
        found = chain.inclusion(TxId(bytes.fromhex(identity)))
        if found is None:
            raise not_found("recent transaction")
        return Outcome(height=found.height, code=found.code, message=found.message)

    @app.post("/transactions", response_model=Submitted)
    async def submit(
        raw: Annotated[str, Body(embed=True, pattern="^([0-9a-f]{2})+$", max_length=2 * limits.TX_BYTES)],
    ) -> Any:
        """Take in a signed transaction and pass it on."""
        return {"id": (await node.submit(bytes.fromhex(raw))).hex()}


def _serve_records(app: FastAPI, node: Node) -> None:
    chain = node.chain

    @app.get("/accounts/{address}", response_model=model_of(Account))
    async def account(address: Address) -> Any:
        """What an account holds."""
        return _found(chain.ledger.state().get(key_account(addresses.decode(address)), Account), "account")

    @app.get("/leases/{identity}", response_model=model_of(Lease))
    async def lease(identity: Hex32) -> Any:
        """A lease as the newest state has it."""
        return _found(chain.ledger.state().get(key_lease(LeaseId(bytes.fromhex(identity))), Lease), "lease")

    @app.get("/deployments/{identity}", response_model=model_of(Deployment))
    async def deployment(identity: Hex32) -> Any:
        """A deployment with its escrow, as the newest state has it."""
        key = key_deployment(DeploymentId(bytes.fromhex(identity)))
        return _found(chain.ledger.state().get(key, Deployment), "deployment")

    @app.get("/deployments/{identity}/projection", response_model=model_of(Projection))
    async def projection(identity: Hex32) -> Any:
        """How long the escrow lasts, what happens next by itself, and what each lease has earned by now."""
        found = project(chain.ledger.state(), DeploymentId(bytes.fromhex(identity)), now=chain.head.time)
        return _found(found, "deployment")


def _found(record: Any, what: str) -> Any:
    """Raises `Refused` `api.not_found`."""
    if record is None:
        raise not_found(what)
    return plain(record)
