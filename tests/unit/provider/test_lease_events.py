"""The events of a lease: bounded, numbered, on disk, and followed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from fondaco.protocol import limits
from fondaco.protocol.channel_calls import Happening, LeaseEvent
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.lease_events import EventStore, LeaseEvents

LEASE = LeaseId(bytes(range(32)))


def store(home: Path) -> EventStore:
    return EventStore(home / "events")


def details(events: LeaseEvents, after: int = 0) -> list[str]:
    return [event.detail for event in events.after(after)]


def test_events_are_numbered_and_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    first = store(tmp_path).of(LEASE)
    first.add(Happening.EXITED, "why", service="web", replica=2, code=137)
    first.add(Happening.PAUSED, "1")
    again = store(tmp_path).of(LEASE)
    assert again.after(0) == first.after(0)
    again.add(Happening.STARTED, "2")
    assert [event.number for event in again.after(0)] == [1, 2, 3]
    assert details(again, 2) == ["2"]
    exited = again.after(0)[0]
    assert (exited.kind, exited.service, exited.replica, exited.code) == ("exited", "web", 2, 137)
    assert exited.time <= again.after(2)[0].time


def test_only_the_newest_are_kept_in_memory_and_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEASE_EVENTS", 4)
    events = store(tmp_path).of(LEASE)
    sizes = []
    for number in range(30):
        events.add(Happening.PAUSED, f"{number:02}")
        sizes.append((tmp_path / "events" / f"{LEASE.hex()}.events").stat().st_size)
    assert details(events) == ["26", "27", "28", "29"]
    assert max(sizes) <= 2 * 4 * sizes[0]
    assert details(store(tmp_path).of(LEASE)) == ["26", "27", "28", "29"]


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_an_event_that_a_crash_cut_short_is_dropped_and_the_next_ones_are_read(tmp_path: Path, cut: int) -> None:
    events = store(tmp_path).of(LEASE)
    for text in ("one", "two"):
        events.add(Happening.PAUSED, text)
    path = tmp_path / "events" / f"{LEASE.hex()}.events"
    path.write_bytes(path.read_bytes()[:-cut])
    again = store(tmp_path).of(LEASE)
    assert details(again) == ["one"]
    again.add(Happening.PAUSED, "three")
    assert details(store(tmp_path).of(LEASE)) == ["one", "three"]


def test_a_file_that_is_none_of_ours_costs_its_events_only(tmp_path: Path) -> None:
    path = tmp_path / "events" / f"{LEASE.hex()}.events"
    path.parent.mkdir()
    path.write_bytes(b"\xff" * 100)
    (path.parent / "notes.events").touch()
    events = store(tmp_path).of(LEASE)
    assert details(events) == []
    events.add(Happening.PAUSED, "one")
    assert store(tmp_path).kept() == [LEASE]
    assert details(store(tmp_path).of(LEASE)) == ["one"], "what is added to it is read again"


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    events = store(tmp_path).of(LEASE)
    (tmp_path / "events" / f"{LEASE.hex()}.events").mkdir()
    events.add(Happening.PAUSED, "one")
    assert details(events) == ["one"]


def test_a_long_detail_is_cut_between_characters(tmp_path: Path) -> None:
    events = store(tmp_path).of(LEASE)
    events.add(Happening.FAILED, "x" + "ü" * 1_000)
    (detail,) = details(store(tmp_path).of(LEASE))
    assert detail == "x" + "ü" * 127


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.of(LEASE).add(Happening.CLOSED)
    assert kept.kept() == [LEASE]
    kept.forget(LEASE)
    kept.forget(LEASE)
    assert kept.kept() == []
    assert details(kept.of(LEASE)) == []


async def test_a_follower_hears_what_was_and_what_comes_until_the_lease_ends(tmp_path: Path) -> None:
    kept = store(tmp_path)
    events = kept.of(LEASE)
    events.add(Happening.STARTED, "before")
    heard: list[LeaseEvent] = []

    async def follow() -> None:
        async for event in kept.of(LEASE).follow(0):
            heard.append(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        assert [event.detail for event in heard] == ["before"]
        events.add(Happening.EXITED, "later", code=0)
        await trio.testing.wait_all_tasks_blocked()
        assert [event.detail for event in heard] == ["before", "later"]
        events.add(Happening.CLOSED, "last")
        events.close()
    assert heard[-1].detail == "last"
