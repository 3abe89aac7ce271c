"""What nodes tell of their network over the API, while it is well and while it is not."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.network import PATIENCE_S, address, seed, until
from tests.support.small_networks import Asked, network

from fondaco.node import loopback
from fondaco.node.network.host import open_host, peer_id_of
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.operator_token import token_path
from fondaco.protocol.errors import PeerFault, Unreachable
from fondaco.protocol.signing import Signer

STRANGER = peer_id_of(Signer(seed(99)).public_key)


async def eventually(ask: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    with trio.fail_after(PATIENCE_S):
        while True:
            answer = await ask()
            if holds(answer):
                return answer
            await trio.sleep(0.05)


async def test_peers_and_meshes_are_shown_as_they_are(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        page = await eventually(lambda: one.get("/net/peers"), lambda page: len(page["items"][0]["queues"]) == 2)
        (row,) = page["items"]
        (seen,) = (await two.get("/net/peers"))["items"]
        assert (row["id"], seen["id"], page["next"]) == (two.id, one.id, None)
        assert row["outbound"] or seen["outbound"]
        assert row["address"].startswith("127.0.0.1:")
        assert {"/meshsub/1.1.0", "/fondaco/consensus/1"} <= {stream["protocol"] for stream in row["streams"]}
        assert {queue["link"] for queue in row["queues"]} == {"gossip", "consensus"}
        assert row["topics"] == ["bids", "orders", "status", "transactions"]
        score = dict(row["score"])
        assert abs(score.pop("total") - sum(score.values())) < 0.01
        assert row["faults"] == 0
        meshes = {topic["topic"]: topic for topic in await one.get("/net/mesh")}
        assert {"orders", "bids", "transactions"} <= meshes.keys()
        assert [member["id"] for member in meshes["orders"]["mesh"]] == [two.id]
        assert meshes["orders"]["outside"] == meshes["orders"]["backoffs"] == []
        assert (await one.get("/net/why-not", peer=two.id))["clear"]
        past = await one.get("/net/peers", cursor=two.id)
        assert past == {"items": [], "next": None}


async def test_faults_are_counted_where_they_are_shown(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        one.node.host.blame(two.node.host.peer_id, PeerFault("test.fault", "nonsense"))
        (row,) = (await one.get("/net/peers"))["items"]
        assert (row["faults"], "nonsense" in row["last_fault"]) == (1, True)
        answer = await one.get("/net/why-not", peer=two.id)
        assert [reason["code"] for reason in answer["reasons"]] == ["peer.faults"]
        assert answer["clear"], "that alone keeps nobody out"


async def test_an_operator_bans_a_peer_and_lets_it_in_again(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        body = {"subject": two.id, "reason": "a test", "seconds": 600}
        made = (await one.as_operator("POST", "/net/bans", json=body)).json()
        assert (made["subject"], made["by"], made["reason"]) == (two.id, "operator", "a test")
        await until(lambda: not one.node.host.is_connected(two.node.host.peer_id))
        assert [ban["subject"] for ban in await one.get("/net/bans")] == [two.id]
        codes = await one.codes(two.id)
        assert codes[:2] == ["ban.peer", "peer.left"]
        lifted = await one.as_operator("DELETE", "/net/bans", params={"subject": two.id})
        assert lifted.json() == {"subject": two.id}
        assert await one.get("/net/bans") == []
        again = await one.as_operator("DELETE", "/net/bans", params={"subject": two.id})
        assert (again.status_code, again.json()["code"]) == (404, "api.not_found")
        await until(lambda: one.node.host.is_connected(two.node.host.peer_id))


async def test_a_network_is_banned_with_all_who_are_there_and_nobody_is_dialled_in_it(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        body = {"subject": "127.0.0.1", "reason": "a test"}
        made = (await one.as_operator("POST", "/net/bans", json=body)).json()
        assert made["subject"] == "127.0.0.0/24"
        await until(lambda: not one.node.host.peers())
        assert "ban.network" in await one.codes(two.id)
        await one.as_operator("DELETE", "/net/bans", params={"subject": "127.0.0.0/24"})
        await until(lambda: one.node.host.is_connected(two.node.host.peer_id))


async def test_nobody_else_bans_and_the_word_lies_where_only_the_owner_reads_it(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as (one,):
        body = {"subject": STRANGER, "reason": "a test"}
        for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": "Bearer é"}):
            encoded = {name.encode(): value.encode() for name, value in headers.items()}
            for answer in (
                await one.client.post("/net/bans", json=body, headers=encoded),
                await one.client.request("DELETE", "/net/bans", params={"subject": STRANGER}, headers=encoded),
            ):
                assert (answer.status_code, answer.json()["code"]) == (401, "api.operator")
        assert await one.get("/net/bans") == []
        assert stat.S_IMODE(token_path(one.node.config.data).stat().st_mode) == 0o600
        for subject in ("nonsense", "127.0.0.0/8", "1.2.3.4.5", one.id):
            refused = await one.as_operator("POST", "/net/bans", json={"subject": subject, "reason": "x"})
            assert (refused.status_code, refused.json()["code"]) == (400, "network.subject")


async def test_why_not_tells_strangers_from_ourselves_and_from_those_that_do_not_answer(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1) as (one,), open_host(seed(2)) as two:
        assert await one.codes("nonsense") == ["peer.malformed"]
        assert await one.codes(one.id) == ["peer.own"]
        assert await one.codes(STRANGER) == ["peer.unknown"]
        nowhere = Address(f"/ip4/127.0.0.1/tcp/{loopback.free_port()}/p2p/{STRANGER}")
        one.node.host.keep_connected(nowhere)
        await until(lambda: dials_failed(one, STRANGER) >= 2)
        answer = await one.get("/net/why-not", peer=STRANGER)
        (reason,) = answer["reasons"]
        assert (reason["code"], answer["known_from"], answer["clear"]) == ("dial.failed", ["contact"], False)
        assert reason["figures"]["failures"] >= 2
        assert str(nowhere) in reason["message"]
        assert "ConnectionRefusedError" in reason["message"], "not what the library wraps it in"
        with pytest.raises(Unreachable, match="PeerIDMismatchesPubkey"):
            await two.connect(Address(f"{address(one.node.host).rpartition('/')[0]}/{STRANGER}"))


def dials_failed(one: Asked, peer: PeerId) -> int:
    contact = one.node.host.contacts.of(peer)
    return 0 if contact is None else contact.failures


async def test_who_unsubscribes_or_is_pruned_is_missed_in_the_mesh_by_name(tmp_path: Path) -> None:
    async with network(tmp_path) as (one, two):
        router = two.node.gossip.router
        name = next(name for name in router.topics if name.endswith("/bids"))
        two.node.gossip._perform(router.unsubscribe(name))
        await eventually(lambda: one.codes(two.id), lambda codes: codes == ["topic.unwanted"])
        two.node.gossip._perform(router.subscribe(name))
        codes = await eventually(lambda: one.codes(two.id), lambda codes: "topic.unwanted" not in codes)
        assert codes == ["mesh.backoff"]
        (mesh,) = [topic for topic in await one.get("/net/mesh") if topic["topic"] == "bids"]
        assert [member["id"] for member in mesh["outside"]] == [two.id]
        assert mesh["backoffs"][0]["left_ms"] > 0
