"""The API over a real node that holds a chain with a story: lists, projections, queries, `why`, its document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.support.chains import Town, order_by
from tests.support.ledger import HOUR, Draft
from tests.support.markets import Marketplace, marketplace, story
from tests.support.network import until

from fondaco.node import config, loopback
from fondaco.node.app import Node, open_node
from fondaco.node.config import NodeConfig
from fondaco.node.files import write_atomically
from fondaco.node.keys.keystore import Keystore
from fondaco.node.market.queries import QUERIES
from fondaco.node.market.shown import address
from fondaco.protocol import limits

NAMES = ("alice", "bob", "paul", "petra")


@dataclass
class Served:
    node: Node
    client: httpx.AsyncClient
    town: Town
    drafts: list[Draft]
    url: str

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, path: str, status: int, code: str, **params: Any) -> None:
        answer = await self.client.get(path, params=params)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def all(self, path: str, **params: Any) -> list[Any]:
        """Every page, one after the other."""
        found: list[Any] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self.get(path, **params, **cursor)
            found += page["items"]
            if page["next"] is None:
                return found
            cursor = {"cursor": page["next"]}


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[Served]:
    """A node that follows, on a chain that was grown before it started; its market has gone the same way."""
    (home / "data").mkdir()
    with marketplace(home / "data", *NAMES) as place:
        drafts = story(place)
        drafts.append(still_open(place))
        town = place.town
    address_ = f"127.0.0.1:{loopback.free_port()}"
    node_settings = NodeConfig(home=home, name="n", listen="127.0.0.1:0", api=address_, market=True)
    (home / "node.toml").write_text(config.dump(node_settings))
    (home / "genesis.json").write_text(json.dumps(town.genesis.to_json()))
    write_atomically(home / "passphrase", b"words")
    Keystore(home / "keys").create("node", "words")
    async with open_node(node_settings) as node:
        for actor in town.actors("alice", "bob"):
            node.book.add_order(order_by(actor)[1])
        assert node.market is not None
        market = node.market
        await until(lambda: market.height == node.chain.head.height)
        url = f"http://{address_}"
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            yield Served(node, client, town, drafts, url)


def still_open(place: Marketplace) -> Draft:
    alice, paul = place.town.actors("alice", "paul")
    draft = place.lease(alice, (paul, 1_000), deposit=5_000)
    place.grow(paul.activates(draft.lease, receipt_of=alice))
    place.grow(after_ms=HOUR)
    return draft


async def test_lists_are_filtered_sorted_and_paged(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        alice, bob, paul, _ = (address(actor.key) for actor in node.town.actors(*NAMES))
        leases = await node.all("/market/leases")
        assert len(leases) == 4
        assert await node.all("/market/leases", limit=1) == leases
        assert [one["id"] for one in await node.all("/market/leases", limit=2, order="desc")] == [
            one["id"] for one in reversed(leases)
        ]
        by_price = await node.all("/market/leases", sort="price_per_hour", limit=1)
        assert [one["price_per_hour"] for one in by_price] == [500, 1_000, 1_000, 2_000]
        closed_last = await node.all("/market/leases", sort="closed_at", limit=1)
        assert closed_last[0]["closed_at"] is None, "what is not known comes first"
        assert {one["state"] for one in await node.all("/market/leases", state="closed")} == {"closed"}
        assert len(await node.all("/market/leases", state="active", provider=paul)) == 1
        assert [one["tenant"] for one in await node.all("/market/leases", tenant=bob)] == [bob]
        assert len(await node.all("/market/leases", min_price=600, max_price=1_500)) == 2
        last = leases[-1]["opened_at"]
        assert await node.all("/market/leases", since_ms=last) == leases[-1:]
        assert await node.all("/market/leases", until_ms=last) == leases[:-1]
        deployments = await node.all("/market/deployments", tenant=alice)
        assert [one["state"] for one in deployments] == ["closed", "open"]


async def test_every_list_answers_and_its_pages_add_up(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        for name in (
            "blocks",
            "transactions",
            "events",
            "payments",
            "providers",
            "bids",
            "declines",
            "utilisation",
        ):
            whole = await node.get(f"/market/{name}")
            assert whole["items"], name
            assert await node.all(f"/market/{name}", limit=3) == whole["items"]
        assert await node.all("/market/offers") == await node.all("/market/attestations") == []
        (decline,) = await node.all("/market/declines")
        assert decline["reasons"] == [{"dimension": "cpu", "asked": "8", "available": "3"}]
        assert decline["counter_offers"] == []
        lease = node.drafts[0].lease.hex()
        kinds = [one["kind"] for one in await node.all("/market/events", mentions=lease, limit=2)]
        assert (kinds[0], kinds[-1]) == ("lease_opened", "lease_closed")
        payments = await node.all("/market/payments", kind="payment", lease=lease)
        assert sum(one["amount"] for one in payments) == (await node.all("/market/leases", id=lease))[0]["paid"]


async def test_a_cursor_is_for_its_own_list_and_order(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        cursor = (await node.get("/market/leases", limit=1))["next"]
        await node.refused("/market/leases", 400, "api.cursor", cursor=cursor, order="desc")
        await node.refused("/market/leases", 400, "api.cursor", cursor=cursor, sort="paid")
        await node.refused("/market/events", 400, "api.cursor", cursor=cursor)
        for nonsense in ("", "x", "bm9uc2Vuc2U", "é", "W10"):
            await node.refused("/market/leases", 400, "api.cursor", cursor=nonsense)
        for wrong in ({"sort": "rowid"}, {"state": "lost"}, {"limit": 0}, {"since_ms": -1}, {"order": "up"}):
            await node.refused("/market/leases", 400, "api.request", **wrong)


async def test_orders_and_providers_of_now_come_in_pages(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        for path in ("/orders", "/providers"):
            whole = await node.all(path)
            assert len(whole) == 2
            assert await node.all(path, limit=1) == whole
        await node.refused("/orders", 400, "api.cursor", cursor="0" * 64)
        await node.refused("/providers", 400, "address.malformed", cursor="fond1nobody")


async def test_a_projection_says_how_long_the_escrow_lasts(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        draft, head = node.drafts[-1], node.node.chain.head
        found = await node.get(f"/deployments/{draft.deployment.hex()}/projection")
        assert (found["state"], found["at"], found["price_per_hour"]) == ("open", head.time, 1_000)
        assert (found["funds"], found["runway_ms"]) == (4_000, 4 * HOUR)
        assert found["dry_at"] == found["next_due_at"] == head.time + 4 * HOUR
        assert found["next_due"] == "runs_dry"
        (lease,) = found["leases"]
        assert (lease["earned"], lease["paid"], lease["state"]) == (1_000, 0, "active")
        over = await node.get(f"/deployments/{node.drafts[0].deployment.hex()}/projection")
        assert (over["state"], over["next_due"], over["runway_ms"]) == ("closed", None, None)


async def test_canned_queries_and_why_are_served(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        for name in QUERIES:
            await node.get(f"/market/queries/{name}", days=7)
        assert (await node.get("/market/queries/closings"))[0].keys() == {"reason", "leases", "paid"}
        found = await node.get(f"/why/{node.drafts[0].lease.hex()[:20]}")
        assert [step["what"] for step in found["steps"]][:2] == ["order", "bid"]
        await node.refused("/why/fond1", 400, "why.ambiguous")
        await node.refused("/why/ffffffffffff", 404, "why.unknown")
        await node.refused("/market/queries/nonsense", 400, "api.request")


async def test_a_question_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fondaco.node.api import listing

    async with served(tmp_path) as node:
        monkeypatch.setattr(limits, "MARKET_QUERY_MS", -1)
        bounded = listing.bounded

        def eager(path: Path) -> Any:
            connection = bounded(path)
            connection.set_progress_handler(lambda: True, 1)
            return connection

        monkeypatch.setattr("fondaco.node.api.market.bounded", eager)
        await node.refused("/market/events", 503, "market.slow")


async def test_a_node_whose_market_is_not_there_yet_says_so(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        assert node.node.market is not None
        node.node.market.database = tmp_path / "nothing.db"
        await node.refused("/market/leases", 503, "market.none")


async def test_everything_the_document_says_holds(tmp_path: Path) -> None:
    """Schemathesis makes requests of the OpenAPI document, good and bad, and holds every answer against it."""
    async with served(tmp_path) as node:
        document = await node.get("/openapi.json")
        operations = await trio.to_thread.run_sync(check_document, document, node.url, examples(node))
        assert operations == sum(len(path) for path in document["paths"].values())


def examples(node: Served) -> dict[str, list[str]]:
    """What is really there, for the parameters that name something."""
    lease = node.drafts[-1]
    return {
        "identity": [lease.lease.hex(), lease.deployment.hex()],
        "address": [address(actor.key) for actor in node.town.actors("paul", "alice")],
        "height": ["1", "5"],
    }


CASES = 8
"""Requests of each kind, for each operation."""
EVERY_TIME_THE_SAME = settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def check_document(document: Any, url: str, known: dict[str, list[str]]) -> int:
    """Raise what does not hold; how many operations were asked."""
    operations = 0
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    holds = EVERY_TIME_THE_SAME(hold)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), "an operation the document gets wrong"
        operation = found.ok()
        operations += 1
        modes = [schemathesis.GenerationMode.POSITIVE]
        if list(operation.iter_parameters()) or operation.body:
            modes.append(schemathesis.GenerationMode.NEGATIVE)
        for mode in modes:
            given(case=operation.as_strategy(generation_mode=mode))(holds)()
        for parameter in operation.path_parameters:
            for value in known.get(parameter.name, []):
                hold(operation.Case(path_parameters={parameter.name: value}))
    return operations


def hold(case: Any) -> None:
    """Ask, and hold the answer against the document.

    No schema can say that an address has a checksum, or whose cursor a cursor is: what is refused with a code of
    its own, not for its form, need not be accepted.
    """
    answer = case.call()
    code = answer.json().get("code") if answer.status_code in (400, 503) else ""
    excluded = [positive_data_acceptance] if answer.status_code == 400 and code != "api.request" else []
    if code == "node.unhealthy":  # it is, and says so
        excluded.append(not_a_server_error)
    case.validate_response(answer, excluded_checks=excluded)
