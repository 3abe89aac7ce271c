"""What a home remembers of latency: bounded, kept through a crash, and no worse for one damaged file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.support.workloads import key

from fondaco.node.tenant import bounds, latency_memory
from fondaco.node.tenant.latency_memory import LatencyMemory
from fondaco.node.tenant.vantages import HERE, PEER_CHARACTERS, Measured, Run
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Millis

NOW = Millis(1_800_000_000_000)
CHAIN = ChainId("town-1")


def measured(*took: int, at: int = NOW) -> Measured:
    return Measured(peer="peer", runs=(Run(at=Millis(at), samples=tuple(map(Millis, took))),))


@pytest.fixture
def memory(tmp_path: Path) -> LatencyMemory:
    return LatencyMemory(tmp_path, CHAIN)


def test_nothing_is_known_at_first(memory: LatencyMemory) -> None:
    assert memory.names() == []
    assert dict(memory.load(HERE, now=NOW).providers) == {}


def test_what_is_added_is_there_for_the_next_process(memory: LatencyMemory) -> None:
    memory.add(HERE, {key(1): measured(5)}, now=NOW)
    memory.add(HERE, {key(1): measured(7, at=NOW + 1), key(2): measured(9)}, now=NOW)
    memory.add("paris", {key(1): measured(80)}, now=NOW)
    again = LatencyMemory(memory.home, CHAIN)
    assert again.names() == [HERE, "paris"]
    known = again.load(HERE, now=NOW)
    assert known.providers[key(1)].samples == [5, 7]
    assert known.providers[key(2)].samples == [9]
    assert again.load("paris", now=NOW).providers[key(1)].samples == [80]


def test_samples_providers_and_age_are_bounded(memory: LatencyMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        memory.add(HERE, {key(1): measured(*[number + 1] * 20, at=NOW + number)}, now=NOW)
    kept = memory.load(HERE, now=NOW).providers[key(1)]
    assert len(kept.samples) == bounds.LATENCY_SAMPLES
    assert set(kept.samples) == {6, 7, 8, 9, 10}
    later = Millis(NOW + bounds.LATENCY_KEPT_MS + 8)
    assert set(memory.load(HERE, now=later).providers[key(1)].samples) == {9, 10}
    monkeypatch.setattr(bounds, "LATENCY_PROVIDERS", 3)
    for number in range(2, 8):
        memory.add(HERE, {key(number): measured(1, at=NOW + 100 + number)}, now=NOW)
    assert set(memory.load(HERE, now=NOW).providers) == {key(5), key(6), key(7)}


def test_a_full_memory_can_be_read(memory: LatencyMemory) -> None:
    """As large as the bounds allow it is no longer than what is read."""
    everybody = {
        key(number): Measured(
            peer="x" * PEER_CHARACTERS,
            runs=tuple(Run(at=Millis(NOW + one), samples=(Millis(2_000),) * 4) for one in range(25)),
        )
        for number in range(1, bounds.LATENCY_PROVIDERS + 1)
    }
    memory.add(HERE, everybody, now=NOW)
    assert memory.path(HERE).stat().st_size < bounds.LATENCY_FILE_BYTES
    assert dict(memory.load(HERE, now=NOW).providers) == everybody


@pytest.mark.parametrize("torn", [b"", b'{"vantage": "here", "ch', b"\0" * 100])
def test_a_torn_file_is_told_of_and_only_what_was_in_it_is_lost(memory: LatencyMemory, torn: bytes) -> None:
    memory.add("paris", {key(1): measured(80)}, now=NOW)
    memory.add(HERE, {key(1): measured(5)}, now=NOW)
    memory.path(HERE).write_bytes(torn)
    with pytest.raises(Refused) as refusal:
        memory.load(HERE, now=NOW)
    assert refusal.value.code == "latency.file"
    assert str(memory.path(HERE)) in refusal.value.message
    assert refusal.value.hint == "measure anew: fondaco latency measure --vantage here"
    assert memory.load("paris", now=NOW).providers
    memory.add(HERE, {key(2): measured(9)}, now=NOW)
    assert set(memory.load(HERE, now=NOW).providers) == {key(2)}
    assert memory.path(HERE).with_suffix(".json.damaged").read_bytes() == torn
    assert memory.names() == [HERE, "paris"]


def test_a_disk_that_refuses_leaves_what_was_there(memory: LatencyMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.add(HERE, {key(1): measured(5)}, now=NOW)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(latency_memory, "write_atomically", full)
    with pytest.raises(Refused, match="No space left") as refusal:
        memory.add(HERE, {key(1): measured(7)}, now=NOW)
    assert refusal.value.code == "latency.disk"
    assert memory.load(HERE, now=NOW).providers[key(1)].samples == [5]


def test_what_was_measured_on_another_chain_is_not_taken_for_this_one(memory: LatencyMemory) -> None:
    LatencyMemory(memory.home, ChainId("before")).add(HERE, {key(1): measured(5)}, now=NOW)
    assert dict(memory.load(HERE, now=NOW).providers) == {}
    memory.add(HERE, {key(2): measured(7)}, now=NOW)
    assert set(memory.load(HERE, now=NOW).providers) == {key(2)}


def test_places_have_names_and_there_are_not_too_many(
    memory: LatencyMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("", "../out", "a/b", ".hidden", "x" * 64):
        with pytest.raises(Refused) as refusal:
            memory.add(name, {key(1): measured(5)}, now=NOW)
        assert refusal.value.code == "latency.vantage"
    monkeypatch.setattr(bounds, "LATENCY_VANTAGES", 2)
    for name in ("a.b", "b", "b"):
        memory.add(name, {key(1): measured(5)}, now=NOW)
    with pytest.raises(Refused, match="2 places are kept already"):
        memory.add("c", {key(1): measured(5)}, now=NOW)


def test_several_that_add_at_once_lose_nothing_of_each_other(memory: LatencyMemory) -> None:
    def add(number: int) -> None:
        memory.add(HERE, {key(number): measured(number)}, now=NOW)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(memory.load(HERE, now=NOW).providers) == {key(number) for number in range(1, 17)}
    left = set(os.listdir(memory.home / "latency"))
    assert left == {"here.json", "lock"}
