"""Which versions of a manifest are on the disk at each moment, also where the disk or another is in the way."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tests.support.fake_market import FakeChain
from tests.support.hand_offs import CHAIN, TENANT, hand_off, make_lease, make_order, manifest_group

from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedReceipt
from fondaco.provider.attempts import Attempt
from fondaco.provider.handoffs import HandOffStore, Stored, StoredHandOff, StoredUpdate
from fondaco.provider.versions import Versions

LEASE = make_lease(make_order())
WHY = Refused("workload.exited", "it ended")


def attempt(version: int) -> Attempt:
    box, signed = hand_off(LEASE)
    receipt = replace(signed.receipt, version=version)
    again = SignedReceipt(receipt=receipt, signature=TENANT.sign(CHAIN, receipt))
    return Attempt(group=manifest_group(), receipt=again, sealed=box)


@pytest.fixture
def store(tmp_path: Path) -> HandOffStore:
    return HandOffStore(tmp_path / "handoffs")


@pytest.fixture
def versions(store: HandOffStore) -> Versions:
    return Versions(LEASE.id, FakeChain(), store)


def on_disk(store: HandOffStore) -> tuple[int, ...]:
    """Versions, the newest first."""

    def version(one: StoredHandOff) -> int:
        return one.receipt.receipt.version

    found: Stored | None = store.all().get(LEASE.id)
    if found is None:
        return ()
    assert (found.lease, found.height) == (LEASE.id, 1)
    return (version(found.newer), version(found.older)) if isinstance(found, StoredUpdate) else (version(found),)


async def ran(versions: Versions, version: int) -> Attempt:
    found = attempt(version)
    await versions.take(found)
    await versions.settle(found)
    return found


async def test_two_are_on_the_disk_while_an_update_comes_up_and_one_before_and_after(
    versions: Versions, store: HandOffStore
) -> None:
    await ran(versions, 1)
    assert on_disk(store) == (1,)
    second, third = attempt(2), attempt(3)
    await versions.take(second)
    assert on_disk(store) == (2, 1)
    await versions.take(third)
    assert on_disk(store) == (3, 1), "the second never ran"
    assert (second.done, second.error is not None) == (True, True)
    assert await versions.go_back(third, WHY)
    assert on_disk(store) == (1,)
    assert not third.done, "its tenant is told when the end is known"
    back = versions.current
    assert back is not None
    assert back.version == 1
    await versions.settle(back)
    assert versions.undone(back) == "version 3 did not come up: it ended [workload.exited]"
    assert third.error is not None
    assert third.error.code == "update.rolled_back"
    await ran(versions, 4)
    assert on_disk(store) == (4,)
    assert not await versions.go_back(attempt(4), WHY), "that is what ran last"


async def test_who_fails_while_a_newer_one_is_handed_over_leaves_it_alone(
    versions: Versions, store: HandOffStore
) -> None:
    first, second = attempt(1), attempt(2)
    await versions.take(first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(versions.take, second)
        while versions.current is first:
            await trio.lowlevel.checkpoint()
        assert not await versions.still(first)
        assert on_disk(store) == (2,), "it was waited for"
        assert not await versions.drop(first)
    assert (versions.current, on_disk(store)) == (second, (2,))
    assert await versions.drop(second)
    assert (versions.current, on_disk(store)) == (None, ())


async def test_a_newer_one_that_comes_while_the_file_is_removed_is_written_after_that(
    versions: Versions, store: HandOffStore
) -> None:
    first, second = attempt(1), attempt(2)
    await versions.take(first)
    kept: list[bool] = []

    async def drop() -> None:
        kept.append(await versions.drop(first))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drop)
        nursery.start_soon(versions.take, second)
    assert on_disk(store) == (2,)
    assert versions.current is second
    assert kept == [False]


async def test_a_disk_that_takes_nothing_keeps_both_and_serving_goes_on(
    versions: Versions, store: HandOffStore, tmp_path: Path
) -> None:
    await ran(versions, 1)
    second = attempt(2)
    await versions.take(second)
    os.rename(tmp_path / "handoffs", tmp_path / "away")
    assert await versions.go_back(second, WHY)
    back = versions.current
    assert back is not None
    await versions.settle(back)
    third = attempt(3)
    with pytest.raises(Refused) as error:
        await versions.take(third)
    assert error.value.code == "provider.disk"
    assert (versions.current, third.done) == (back, True)
    os.rename(tmp_path / "away", tmp_path / "handoffs")
    assert on_disk(store) == (2, 1)


async def test_who_waits_for_an_update_is_told_whatever_becomes_of_the_lease(versions: Versions) -> None:
    await ran(versions, 1)
    second = attempt(2)
    await versions.take(second)
    await versions.go_back(second, WHY)
    versions.end(Refused("lease.closed", "over"))
    assert second.error is not None
    assert second.error.code == "lease.closed"
