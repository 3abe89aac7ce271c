"""Every route of a node's HTTP API, over a node's real parts; and where it may listen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import trio
from tests.support.chains import Town, decline_by, offer_by, order_by, stored, stranger, town_chain
from tests.support.ledger import RICH
from tests.support.light import Full

from fondaco.node import clock, testnet
from fondaco.node.api import make_app, plain, serve_api
from fondaco.node.app import open_node
from fondaco.node.config import NodeConfig, load
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import deployment_id
from fondaco.protocol.resources import Attribute, EndpointKind
from fondaco.protocol.scalars import TxId


@dataclass
class Parts:
    """What the API looks at of a node."""

    town: Town
    full: Full
    heard: list[bytes]

    @property
    def chain(self) -> Any:
        return self.full.chain

    @property
    def book(self) -> Any:
        return self.full.book

    async def submit(self, raw: bytes) -> TxId:
        self.heard.append(raw)
        return self.full.mempool.add(raw)

    market: Any = None
    """None is kept here; `test_api_market` has one."""

    def status(self) -> dict[str, Any]:
        return {
            "name": "parts",
            "chain": self.chain.id,
            "height": self.chain.head.height,
            "head": self.chain.head.hash.hex(),
            "time_ms": self.chain.head.time,
            "peer": "",
            "peers": 0,
            "mempool": len(self.full.mempool),
            "orders": len(self.book.open_orders()),
            "validator": False,
            "provider": False,
            "finality_p50_ms": None,
            "market_height": None,
        }


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[tuple[Parts, httpx.AsyncClient]]:
    with town_chain(path, "alice", "paul") as (town, chain):
        parts: Any = Parts(town, Full(chain), [])
        transport = httpx.ASGITransport(app=make_app(parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            yield parts, client


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert set(answer.json()) == {"code", "message", "hint"}


async def test_blocks_accounts_and_providers_are_shown(tmp_path: Path) -> None:
    async with served(tmp_path) as (parts, client):
        alice, paul = parts.town.actors("alice", "paul")
        parts.town.grow(parts.chain, paul.registers(attributes=[("region", "eu")]))
        parts.town.grow(parts.chain, alice.pays(paul, 5))
        assert (await get(client, "/status"))["height"] == 2
        block = await get(client, "/blocks/2")
        assert block["header"]["previous"] == stored(parts.chain, 1)[0].header.hash().hex()
        account = await get(client, f"/accounts/{addresses.encode(paul.key)}")
        assert account["stake"] == RICH - 1_000_000, "the bond"
        page = await get(client, "/providers")
        (provider,) = page["items"]
        assert page["next"] is None
        assert provider["address"] == addresses.encode(paul.key)
        assert provider["attributes"] == [{"region": "eu"}]
        assert await get(client, f"/providers/{provider['address']}") == provider


async def test_providers_and_offers_are_asked_for_by_a_query(tmp_path: Path) -> None:
    async with served(tmp_path) as (parts, client):
        paul, petra = parts.town.actors("paul", "alice")
        parts.town.grow(parts.chain, paul.registers(attributes=[("region", "eu-west")]), petra.registers())
        for one in (paul, petra):
            assert parts.book.add_offer(offer_by(one))

        async def found(path: str, where: str) -> list[str]:
            page = await get(client, f"{path}?{urlencode({'where': where})}")
            return [one["address"] for one in page["items"]]

        own = [addresses.encode(paul.key)]
        assert await found("/providers", "region = eu-*") == own
        assert await found("/providers", "audited") == []
        assert await found("/offers", "region = eu-* and cpu >= 2 and price < 1") == own
        assert await found("/offers", "gpu.model = h100") == []
        assert len(await found("/offers", "cpu in 1..2")) == 2
        await refused(client, f"/offers?{urlencode({'where': 'prise < 1'})}", 400, "query.field")
        await refused(client, f"/providers?{urlencode({'where': 'price < 1'})}", 400, "query.field")


async def test_orders_answers_leases_and_deployments_are_shown(tmp_path: Path) -> None:
    async with served(tmp_path) as (parts, client):
        alice, paul = parts.town.actors("alice", "paul")
        parts.town.grow(parts.chain, paul.registers())
        identity, signed = order_by(alice)
        parts.book.add_order(signed)
        bid = paul.bid(signed, 900)
        parts.book.add_answer(decline_by(paul, identity))
        assert [one["kind"] for one in await get(client, f"/orders/{identity.hex()}/answers")] == ["decline"]
        parts.book.add_answer(bid)
        (order,) = (await get(client, "/orders"))["items"]
        assert order["id"] == identity.hex()
        assert order["deposit"] == 10_000
        (answer,) = await get(client, f"/orders/{identity.hex()}/answers")
        assert (answer["kind"], answer["price_per_hour"]) == ("bid", 900)
        opens = alice.opens(signed, bid, deposit=10_000)
        parts.town.grow(parts.chain, opens)
        lease = await get(client, f"/leases/{opens.lease.hex()}")
        assert (lease["state"], lease["price_per_hour"]) == ("awaiting", 900)
        deployment = await get(client, f"/deployments/{deployment_id(identity).hex()}")
        assert deployment["leases"] == [opens.lease.hex()]
        assert await get(client, "/orders") == {"items": [], "next": None}
        assert await get(client, "/offers") == {"items": [], "next": None}
        assert await get(client, f"/orders/{identity.hex()}/answers") == []


async def test_a_transaction_is_taken_in_and_its_outcome_shown(tmp_path: Path) -> None:
    async with served(tmp_path) as (parts, client):
        alice, paul = parts.town.actors("alice", "paul")
        raw = parts.town.sign(alice.pays(paul, 5), at=clock.now())
        answer = await client.post("/transactions", json={"raw": raw.hex()})
        assert answer.status_code == 200
        identity = answer.json()["id"]
        assert parts.heard == [raw]
        await refused(client, f"/transactions/{identity}", 404, "api.not_found")
        parts.town.grow(parts.chain, raw, at=clock.now())
        outcome = await get(client, f"/transactions/{identity}")
        assert outcome == {"height": 1, "code": "", "message": ""}


async def test_what_a_node_refuses_is_told_with_its_code(tmp_path: Path) -> None:
    async with served(tmp_path) as (parts, client):
        broke = stranger(parts.town)
        raw = parts.town.sign(broke.pays(broke, 5), at=clock.now())
        for body, code in (
            ({"raw": raw.hex()}, "tx.fee"),
            ({"raw": "00"}, "codec.type"),
            ({"raw": "zz"}, "api.request"),
            ({"raw": ""}, "api.request"),
            ({}, "api.request"),
        ):
            answer = await client.post("/transactions", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_what_is_not_there_and_what_is_no_question_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as (parts, client):
        nobody = addresses.encode(stranger(parts.town).key)
        nothing = "0" * 64
        for path in (
            "/blocks/1",
            f"/accounts/{nobody}",
            f"/providers/{nobody}",
            f"/leases/{nothing}",
            f"/deployments/{nothing}",
            f"/transactions/{nothing}",
            f"/deployments/{nothing}/projection",
        ):
            await refused(client, path, 404, "api.not_found")
        for path in ("/blocks/-1", "/blocks/x", "/leases/xx", "/orders?limit=0", "/providers?limit=1000000"):
            await refused(client, path, 400, "api.request")
        await refused(client, "/nowhere", 404, "api.route")
        for path in ("/market/leases", "/market/queries/prices", "/why/1"):
            await refused(client, path, 404, "market.off")
        answer = await client.post("/status")
        assert (answer.status_code, answer.json()["code"]) == (405, "api.route")
        answer = await client.get("/accounts/fond1nonsense")
        assert answer.status_code == 400
        assert answer.json()["code"].startswith("address.")
        assert (await get(client, "/openapi.json"))["info"]["title"] == "fondaco node"


def test_every_value_has_a_plain_form() -> None:
    assert plain(EndpointKind.LEASED_IP) == "leased_ip"
    assert plain(b"\x01\xff") == "01ff"
    assert plain((1, [Attribute(key="a", value="b")])) == [1, [{"a": "b"}]]
    assert plain(None) is None


@pytest.mark.parametrize(
    "api", ["0.0.0.0:1", "192.0.2.1:80", "localhost:80", "127.0.0.1", "127.0.0.1:", "[::]:80", ":80", "x"]
)
async def test_it_listens_nowhere_but_on_loopback(tmp_path: Path, api: str) -> None:
    parts: Any = SimpleNamespace(config=NodeConfig(home=tmp_path, name="n", listen="", api=api))
    with pytest.raises(Refused) as refusal:
        await serve_api(parts)
    assert refusal.value.code == "api.address"


async def test_a_whole_node_in_this_process_serves_agrees_and_stops(tmp_path: Path) -> None:
    plan = testnet.create(tmp_path, validators=1, providers=0)
    settings = load(plan.home / "nodes" / "validator-0")
    async with open_node(settings) as node, httpx.AsyncClient(base_url=f"http://{settings.api}") as client:
        with trio.fail_after(20):
            await node.chain.wait_first_block()
            status = await get(client, "/status")
            counted = (await get(client, "/measures"))["book"]
        assert {"orders", "answers", "shed_orders", "refused_quota"} <= set(counted)
        assert {"rounds", "pulled", "bytes_in", "bytes_out", "refused"} <= set(counted)
        assert status["chain"] == plan.chain
        assert status["height"] >= 1
        assert status["validator"] is True
        assert status["finality_p50_ms"] is not None
