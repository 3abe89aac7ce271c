"""A network one of whose providers is far away: the cheaper one, which `fastest` and a bound pass over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.networks import network
from tests.support.slow_link import slow_link

from fondaco.node import config, demo, testnet
from fondaco.node.network.peers import Address
from fondaco.node.tenant.choosing import choice
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.plans import Plan
from fondaco.protocol.errors import Refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
FAR = "provider-0"
"""The cheaper of two, as test networks are made."""
FAR_MS = 160


def move(home: Path, name: str, where: Address) -> None:
    """Have a provider name this address in its bids and its record, and the tenant know no other."""
    folder = home / "nodes" / name
    settings = replace(config.load(folder), announce=(where.rpartition("/p2p/")[0],))
    (folder / "node.toml").write_text(config.dump(settings), encoding="utf-8")


def tell(home: Path, name: str, where: Address) -> None:
    listing = json.loads((home / "testnet.json").read_text(encoding="utf-8"))
    for one in listing["members"]:
        one["address"] = where if one["name"] == name else one["address"]
    (home / "testnet.json").write_text(json.dumps(listing), encoding="utf-8")


def served_by(plan: Plan) -> str:
    (bid,) = plan.bids()
    return bid.bid.peer


async def test_the_nearer_provider_is_taken_though_it_is_dearer(tmp_path: Path) -> None:
    plan = testnet.create(tmp_path, validators=1, providers=2)
    near, far = (one.address.rpartition("/")[2] for one in plan.members if one.role == "provider")
    direct = next(one.address for one in plan.members if one.name == FAR)
    if not direct.endswith(far):
        near, far = far, near
    async with slow_link(Address(direct), FAR_MS // 2) as where:
        move(tmp_path, FAR, where)
        async with network(tmp_path):
            tell(tmp_path, FAR, where)
            async with Tenant.connect(tmp_path) as tenant:
                text = demo.HELLO.read_bytes()
                assert served_by(await tenant.plan(text, wanted=2)) == far, "the cheaper one"
                assert not (tmp_path / "latency").exists(), "nobody asked"
                fastest = await tenant.plan(text, select="fastest", wanted=2)
                assert served_by(fastest) == near
                slow = fastest.rankings[0].ranked[1].reason
                assert FAR_MS <= int(slow.split()[0]) < 2_000
                bound = await tenant.plan(text, select=choice("cheapest", "latency.p50 < 100"), wanted=1)
                assert served_by(bound) == near
                with pytest.raises(Refused, match=r"latency\.p50 < 100: it is 1[6-9]\d; measured: ") as refusal:
                    await tenant.plan(text, select=choice("cheapest", "latency.p50 < 100"), wanted=2)
                assert refusal.value.code == "bids.few"
