"""Deploying a name again: what stands under it, what it takes to make it so, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.integration.test_changing import ELSEWHERE, LARGER, LOUDER, kept, place
from tests.integration.test_deployment import HELLO, Place

from fondaco.node.tenant import naming, ordering, records
from fondaco.node.tenant.naming import Standing, Step
from fondaco.node.tenant.ordering import Answers
from fondaco.node.tenant.plans import Plan
from fondaco.protocol import sdl
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.messages import Activate
from fondaco.protocol.scalars import DeploymentId, LeaseId, MicroCredits, Millis
from fondaco.protocol.selection import candidate, rank

NOTICE = HELLO + b"reclamation: {min_window: 2h}\n"
CHEAPER = HELLO.replace(b"amount: 100", b"amount: 0.01")
PLACED = HELLO.replace(b"anywhere:\n      pricing", b"anywhere:\n      attributes: {region: eu}\n      pricing")


async def standing(here: Place) -> Standing:
    found = await naming.standing(here.tenant, "web")
    assert found is not None
    return found


async def step(here: Place, text: bytes) -> Step:
    return naming.step(await standing(here), text, here.tenant)


async def test_a_lease_that_was_not_handed_over_is_gone_on_with_and_one_that_runs_is_let_be(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here:
        assert await naming.standing(here.tenant, "other") is None
        assert await step(here, HELLO) is Step.GO_ON
        assert await step(here, LOUDER) is Step.UPDATE
        tenant, paul = here.town.actors("tenant", "paul")
        record = await here.lease.record()
        assert record is not None
        receipt = tenant.receipt(here.opened.lease, commitment=record.commitment)
        here.grow(paul.does(Activate(receipt=receipt)))
        assert await step(here, HELLO) is Step.NOTHING
        assert await step(here, LOUDER) is Step.UPDATE
        found = await standing(here)
        assert (found.name, found.price_per_hour) == ("web", 900)
        (handle,) = here.deployment.leases
        records.save(
            here.tenant.folder,
            replace(kept(here), leases=(replace(handle.file, salt=type(handle.file.salt)(b"1" * 32)),)),
        )
        assert await step(here, HELLO) is Step.UPDATE, "an update was begun that the ledger never got"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LARGER, "other resources for group 'anywhere'"),
        (ELSEWHERE, "its groups are anywhere, the file has somewhere"),
        (PLACED, "placed otherwise"),
        (NOTICE, "less notice than the 7200000 ms"),
    ],
)
async def test_a_file_that_needs_something_else_is_refused_with_the_ways_to_have_it(
    tmp_path: Path, text: bytes, why: str
) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(Refused, match=why) as refusal:
            await step(here, text)
        assert refusal.value.code == "deploy.changed"
        assert refusal.value.hint.startswith(f"`fondaco close {here.lease.id[:12]}` and deploy again")
        assert "--name web-2" in refusal.value.hint
        with pytest.raises(Refused):
            await naming.settle(here.tenant, await standing(here), text)
        assert kept(here) == here.deployment.file


async def test_where_one_of_several_leases_has_ended_it_is_said(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        (lease,) = here.deployment.file.leases
        second = replace(
            lease, lease=LeaseId(bytes(32)), manifest=lease.manifest.replace(b'"anywhere"', b'"elsewhere"')
        )
        records.save(here.tenant.folder, replace(here.deployment.file, leases=(lease, second)))
        placement = HELLO.decode().split("  placement:\n")[1].split("deployment:")[0]
        both = HELLO.decode().replace(placement, placement + placement.replace("anywhere", "elsewhere"))
        both += "    elsewhere:\n      profile: web\n      count: 1\n"
        with pytest.raises(Refused, match="the lease for elsewhere has ended") as refusal:
            await step(here, both.encode())
        assert refusal.value.code == "deploy.partly"


async def test_what_was_ordered_is_judged_by_what_was_leased_where_it_is_not_on_file(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        (lease,) = here.deployment.file.leases
        records.save(here.tenant.folder, replace(here.deployment.file, leases=(replace(lease, group=None),)))
        assert await step(here, LARGER) is Step.UPDATE
        with pytest.raises(Refused) as refusal:
            await naming.settle(here.tenant, await standing(here), LARGER)
        assert refusal.value.code == "manifest.mismatch"


async def test_a_price_below_what_was_agreed_changes_nothing_and_is_said(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        assert await step(here, CHEAPER) is Step.GO_ON
        told: list[str] = []
        with pytest.raises(Unreachable):  # its provider is nowhere to be found
            await naming.settle(
                here.tenant, await standing(here), CHEAPER, report=lambda progress: told.append(progress.detail)
            )
        assert told == ["anywhere goes on at 0.0009/h: that the file allows 0.000006/h is for new orders"]


async def test_what_has_ended_does_not_count(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        here.grow(here.town.actors("tenant")[0].closes(here.opened.lease))
        assert await naming.standing(here.tenant, "web") is None


async def test_a_plan_that_the_ledger_refuses_leaves_no_file_behind(tmp_path: Path) -> None:
    """Else the next would wait for a lease that cannot come."""
    async with place(tmp_path) as here:
        tenant, (paul,) = here.tenant, here.town.actors("paul")
        params = await tenant.wallet.params()
        order = ordering.draft(tenant.light, tenant.wallet.signer, sdl.parse(HELLO), params, deposit=None)
        bid = paul.bid(order.signed, 900, expires_at=Millis(1))
        ranking = rank(order.groups[0], [candidate(tenant.light.chain, bid)], now=Millis(0))
        with pytest.raises(Refused):
            await tenant.accept(Plan(draft=order, answers=Answers(), rankings=(ranking,)), name="other")
        assert [record.name for record in records.load_all(tenant.folder)] == ["web"]


def written(here: Place, *, ago_s: float) -> None:
    """The file of a deployment that no ledger has seen."""
    (lease,) = here.deployment.file.leases
    record = replace(
        here.deployment.file,
        deployment=DeploymentId(b"\x01" * 32),
        leases=(replace(lease, lease=LeaseId(b"\x01" * 32)),),
    )
    records.save(here.tenant.folder, record)
    path = records.path_of(here.tenant.folder, record)
    when = path.stat().st_mtime - ago_s
    os.utime(path, (when, when))


async def test_a_lease_that_may_still_come_is_waited_for_and_then_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here:
        records.path_of(here.tenant.folder, here.deployment.file).unlink()
        written(here, ago_s=3_600)
        began = trio.current_time()
        assert await naming.standing(here.tenant, "web") is None
        written(here, ago_s=0)
        monkeypatch.setattr(naming, "PENDING_MS", 1_000)
        told: list[str] = []
        found = await naming.standing(here.tenant, "web", report=lambda progress: told.append(progress.step))
        assert (found, told) == (None, ["pending"])
        assert trio.current_time() - began > 0.5


async def test_a_lease_that_comes_after_all_is_what_stands(tmp_path: Path) -> None:
    """As after a kill between the file and the block."""
    async with place(tmp_path) as here:
        records.path_of(here.tenant.folder, here.deployment.file).unlink()
        tenant, paul = here.town.actors("tenant", "paul")
        (lease,) = here.deployment.file.leases
        assert lease.group is not None
        order = tenant.order(lease.group, deposit=MicroCredits(10**8))
        opened = tenant.opens(order, paul.bid(order, 800), deposit=10**8)
        record = replace(
            here.deployment.file, deployment=opened.deployment, leases=(replace(lease, lease=opened.lease),)
        )
        records.save(here.tenant.folder, record)
        found = await naming.standing(here.tenant, "web", report=lambda progress: here.grow(opened))
        assert found is not None
        assert (found.deployment.file, found.price_per_hour) == (record, 800)
