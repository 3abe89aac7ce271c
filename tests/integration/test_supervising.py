"""A supervisor and a provider that is nowhere: what it does once, and over its own crashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.integration.test_changing import Silent, kept, place
from tests.integration.test_deployment import Place

from fondaco.node import clock
from fondaco.node.tenant import changing, client, records, services
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import funds
from fondaco.node.tenant.records import LeaseFile
from fondaco.node.tenant.supervising import Event, Supervisor
from fondaco.node.tenant.supervision import Condition, Settings
from fondaco.node.tenant.supervisor_file import load
from fondaco.node.tenant.watching import look, settled
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import LeaseId, PublicKey

HOUR = 3_600_000
OTHER = LeaseId(b"\x09" * 32)
DEAR = Settings(runway_ms=(200_000 * HOUR, 222_223 * HOUR), budget=150_000_000)
"""The lease costs 900 ucredit an hour, and its escrow holds 100 credits: 111,111 hours."""


async def until(wanted: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not wanted():
            await trio.sleep(0.01)


async def watched(
    tenant: Tenant, settings: Settings, enough: Callable[[list[Event]], bool], *, every_s: float = 0.05
) -> list[Event]:
    """What a supervisor tells until that is enough; it is then gone, as by a crash."""
    events = list[Event]()
    async with (
        Supervisor(tenant, "web", settings, every_s=every_s, report=events.append) as supervisor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(supervisor.run)
        await until(lambda: enough(events))
        nursery.cancel_scope.cancel()
    return events


def kinds(events: list[Event]) -> list[str]:
    return [one.kind for one in events]


async def in_escrow(here: Place) -> int:
    record = await here.deployment.record()
    assert record is not None
    return funds(record)


# What a crash left on file


def beside(here: Place, *leases: LeaseFile) -> None:
    """The file as a replacement leaves it for as long as nobody knows what became of it."""
    here.deployment.file = replace(here.deployment.file, leases=leases)
    records.save(here.tenant.folder, here.deployment.file)


def age(here: Place, ms: int) -> None:
    path = here.tenant.folder / f"{here.deployment.file.deployment.hex()}.json"
    at = (clock.now() - ms) / 1_000
    os.utime(path, (at, at))


async def test_a_replacement_that_may_still_come_is_waited_for_and_then_forgotten(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        own = here.lease.file
        assert await settled(here.tenant, kept(here)) == (kept(here), False)
        beside(here, own, replace(own, lease=OTHER))
        file, pending = await settled(here.tenant, kept(here))
        assert pending
        assert file == kept(here)
        assert (await look(here.tenant, file, 0)).seen.condition is Condition.PENDING
        age(here, 11_000)
        file, pending = await settled(here.tenant, kept(here))
        assert (file, pending) == (kept(here), False), "it may be tried again, and either may be taken"
        assert (await look(here.tenant, file, 0)).handle.file == own
        age(here, 70_000)
        file, pending = await settled(here.tenant, kept(here))
        assert (file.leases, pending) == ((own,), False)
        assert kept(here) == file


async def test_a_replacement_that_the_ledger_took_stands_in_the_place_of_what_it_replaced(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        own = here.lease.file
        beside(here, replace(own, lease=OTHER, provider=PublicKey(bytes(32))), own)
        file, pending = await settled(here.tenant, kept(here))
        assert (file.leases, pending) == ((own,), False)
        assert kept(here) == file


async def test_of_two_attempts_at_one_replacement_the_one_that_was_taken_stays(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        own = here.lease.file
        lost = replace(own, provider=PublicKey(bytes(32)))
        for leases in ((replace(own, lease=OTHER), lost, own), (own, lost), (lost, own)):
            beside(here, *leases)
            file, pending = await settled(here.tenant, kept(here))
            assert (file.leases, pending) == ((own,), False)


# A provider that is nowhere


async def test_a_dead_providers_lease_is_ordered_elsewhere_and_not_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BID_WINDOW_MS", 100)
    monkeypatch.setattr(client, "BID_PATIENCE_MS", 200)
    settings = Settings(away_ms=100, unhealthy_ms=HOUR)
    async with place(tmp_path) as here:
        events = await watched(here.tenant, settings, lambda told: "failed" in kinds(told))
        assert kinds(events)[:2] == ["down", "replacing"]
        assert events[-1].figures["code"] == "bids.none"
        assert kept(here) == here.deployment.file
        remembered = load(services.folder(tmp_path, "web")).replicas["web"]
        assert remembered.down_since == events[0].at or remembered.down_since is not None
        looks = list[int]()

        def enough(told: list[Event]) -> bool:
            looks.append(len(told))
            return len(looks) > 100

        again = await watched(here.tenant, settings, enough)
        assert "replacing" not in kinds(again), "a restart is no reason to hurry"


async def test_a_transaction_of_which_nobody_knows_is_not_said_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as here:
        silent = replace(here.tenant, wallet=Silent(here.tenant.light, here.tenant.wallet.signer))
        held = here.lease.file
        with pytest.raises(Unreachable):
            await changing._say(silent, here.lease, replace(held, lease=OTHER), None)  # type: ignore[arg-type]
        looks = list[int]()

        def enough(told: list[Event]) -> bool:
            looks.append(len(told))
            return len(looks) > 100

        events = await watched(here.tenant, Settings(away_ms=1, unhealthy_ms=1), enough)
        assert not {"replacing", "handing_over"} & set(kinds(events))


# Money


async def test_an_escrow_is_topped_up_once_within_the_budget_and_not_again_after_a_restart(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        before = await in_escrow(here)
        events = await watched(here.tenant, DEAR, lambda told: "topped_up" in kinds(told))
        paid = events[-1].figures["ucredit"]
        assert await in_escrow(here) == before + paid
        assert load(services.folder(tmp_path, "web")).spent.amount == paid
        looks = list[int]()

        def enough(told: list[Event]) -> bool:
            looks.append(len(told))
            return len(looks) > 100

        events = await watched(here.tenant, DEAR, enough)
        assert "topped_up" not in kinds(events)
        assert await in_escrow(here) == before + paid


async def test_what_the_budget_does_not_cover_is_told_once_and_not_paid(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        before = await in_escrow(here)
        events = await watched(here.tenant, replace(DEAR, budget=0), lambda told: "budget" in kinds(told))
        assert kinds(events).count("budget") == 1
        assert await in_escrow(here) == before


async def test_one_supervisor_of_a_service_runs_at_a_time(tmp_path: Path) -> None:
    async with place(tmp_path) as here, Supervisor(here.tenant, "web", Settings()):
        with pytest.raises(Refused) as refusal:
            async with Supervisor(here.tenant, "web", Settings()):
                pass
        assert refusal.value.code == "home.in_use"


def test_an_event_is_one_flat_object() -> None:
    event = Event(kind="down", replica="web", at=clock.now(), detail="away", figures={"lease": "ab"})
    assert event.to_json().keys() == {"event", "replica", "time_ms", "detail", "lease"}
