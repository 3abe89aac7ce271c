from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.state import AUX, RECORD, MemoryStore, Overlay, State
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Supply, UsedOrder
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis

keys = st.sampled_from([bytes(pair) for pair in [(a, b) for a in range(4) for b in range(4)]])
layers = st.lists(st.dictionaries(keys, st.none() | st.binary(max_size=1), max_size=8), max_size=4)


def supply(credits: int) -> Supply:
    return Supply(credits=MicroCredits(credits), stake=MicroStake(0))


@given(
    below=st.dictionaries(keys, st.binary(max_size=1)),
    layers=layers,
    start=keys,
    end=keys,
    limit=st.integers(1, 9),
)
def test_overlays_read_as_one_store_would(
    below: dict[bytes, bytes], layers: list[dict[bytes, bytes | None]], start: bytes, end: bytes, limit: int
) -> None:
    flat = dict(below)
    top: MemoryStore | Overlay = MemoryStore(below)
    for changes in layers:
        top = Overlay(top)
        for key, value in changes.items():
            top.put(key, value)
            flat.pop(key, None)
            if value is not None:
                flat[key] = value
    inside = sorted(item for item in flat.items() if start <= item[0] < end)
    assert list(top.scan(start, end, limit)) == inside[:limit]
    for key in (start, end):
        assert top.get(key) == flat.get(key)


def test_an_attempt_that_fails_leaves_no_trace() -> None:
    state = State(MemoryStore())
    state.put(b"supply", supply(1))

    def fail(trial: State) -> None:
        trial.put(b"supply", supply(2))
        trial.put(b"other", supply(3))
        assert trial.require(b"supply", Supply) == supply(2)
        trial.attempt(lambda inner: inner.put(b"supply", None))
        assert trial.get(b"supply", Supply) is None
        raise Refused("a.reason", "why not")

    with pytest.raises(Refused):
        state.attempt(fail)
    assert state.require(b"supply", Supply) == supply(1)
    assert state.get(b"other", Supply) is None
    state.attempt(lambda trial: trial.put(b"supply", supply(4)))
    assert state.require(b"supply", Supply) == supply(4)


def test_a_record_read_twice_is_decoded_once_and_again_when_it_changed() -> None:
    state = State(MemoryStore())
    state.put(b"supply", supply(1))
    first = state.require(b"supply", Supply)
    assert state.require(b"supply", Supply) is first
    raw = state.writes[RECORD + b"supply"]
    state.overlay.put(RECORD + b"supply", raw)
    assert state.require(b"supply", Supply) is first
    state.put(b"supply", supply(2))
    assert state.require(b"supply", Supply) == supply(2)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "scan", "enter", "leave", "fail"]), keys, st.none() | st.integers(1, 9))
    )
)
def test_a_scan_and_an_attempt_see_what_was_put_before_them(steps: list[tuple[str, bytes, int | None]]) -> None:
    """Whatever was encoded by then, and however deep the attempts lie in each other."""
    left = iter(steps)

    def run(state: State, holds: dict[bytes, int]) -> dict[bytes, int]:
        for action, key, number in left:
            if action == "put":
                state.put(key, None if number is None else supply(number))
                holds = {one: value for one, value in holds.items() if one != key}
                holds |= {} if number is None else {key: number}
            elif action == "scan":
                found = [(one, codec.decode(raw, Supply).credits) for one, raw in state.scan(key[:1], 99)]
                assert found == [item for item in sorted(holds.items()) if item[0][:1] == key[:1]]
            elif action == "enter":
                with suppress(Refused):
                    holds = state.attempt(partial(run, holds=holds))
            elif action == "leave":
                return holds
            else:
                raise Refused("a.reason", "why not")
            record = state.get(key, Supply)
            assert (None if record is None else record.credits) == holds.get(key)
        return holds

    with suppress(Refused):
        run(State(MemoryStore({RECORD + bytes((1, 1)): codec.encode(supply(7))})), {bytes((1, 1)): 7})


def test_states_of_one_ledger_share_what_is_decoded_and_nothing_else() -> None:
    store, records = MemoryStore(), Records()
    one, other = State(store, records), State(store, records)
    one.put(b"supply", supply(1))
    assert other.get(b"supply", Supply) is None
    other.put(b"supply", supply(2))
    assert one.require(b"supply", Supply) == supply(1)
    store.apply(one.writes)
    assert State(store, records).require(b"supply", Supply) is one.require(b"supply", Supply)


def test_a_store_in_memory_stays_in_order_whatever_is_written() -> None:
    store = MemoryStore({b"b": b"2"})
    store.apply({b"c": b"3", b"a": b"1", b"none": None})
    store.apply({b"b": None, b"c": b"4"})
    assert list(store.scan(b"", b"z", 9)) == [(b"a", b"1"), (b"c", b"4")]
    assert list(store.scan(b"b", b"c", 9)) == list(store.scan(b"c", b"a", 9)) == []


def test_a_record_that_is_not_what_it_should_be_stops_the_ledger() -> None:
    """As our own bug, never as the fault of whoever sent the transaction that met it."""
    state = State(MemoryStore({RECORD + b"supply": b"\xc1"}))
    with pytest.raises(AssertionError, match="supply"):
        state.get(b"supply", Supply)
    with pytest.raises(AssertionError, match="lost"):
        state.require(b"totals", Supply)
    state.put(b"totals", supply(1))
    with pytest.raises(AssertionError, match="not a UsedOrder"):
        state.get(b"totals", UsedOrder)


def test_scans_of_numbered_records_end_before_the_number() -> None:
    state = State(MemoryStore())
    for number in (1, 255, 256, 2**53):
        state.put(b"at/" + number.to_bytes(8, "big") + b"key", UsedOrder(expires_at=Millis(number)))
    state.put(b"au/", supply(0))

    def found(number: int, limit: int = 9) -> list[int]:
        return [int.from_bytes(key[3:11], "big") for key, _ in state.scan_before(b"at/", number, limit)]

    assert (found(1), found(2), found(256), found(257)) == ([], [1], [1, 255], [1, 255, 256])
    assert found(2**63, limit=2) == [1, 255]
    assert [int.from_bytes(key[3:11], "big") for key, _ in state.scan(b"at/", 9)] == [1, 255, 256, 2**53]


class Counting(MemoryStore):
    """Counts what is read of it."""

    def __init__(self, entries: dict[bytes, bytes]) -> None:
        super().__init__(entries)
        self.got: list[bytes] = []
        self.got_at_once: list[list[bytes]] = []

    def get(self, key: bytes) -> bytes | None:
        self.got.append(key)
        return super().get(key)

    def get_all(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        self.got_at_once.append(sorted(keys))
        return super().get_all(keys)


def test_a_key_is_read_once_whoever_asks_for_it() -> None:
    store = Counting({RECORD + b"supply": codec.encode(supply(7)), AUX + b"one": b""})
    state = State(store)
    assert state.attempt(lambda trial: trial.get(b"supply", Supply)) == state.get(b"supply", Supply) == supply(7)
    assert state.get(b"nothing", Supply) is state.get(b"nothing", Supply) is None
    assert store.got == [RECORD + b"supply", RECORD + b"nothing"]


def test_what_was_read_at_once_is_not_read_again_and_changes_stand_above_it() -> None:
    store = Counting({RECORD + b"supply": codec.encode(supply(7)), AUX + b"one": b""})
    state = State(store)
    state.put(b"totals", supply(1))
    state.prefetch([b"supply", b"totals"], aux=[b"one", b"other"])
    state.prefetch([b"supply"])
    assert (state.get(b"supply", Supply), state.get(b"totals", Supply)) == (supply(7), supply(1))
    assert (state.has_aux(b"one"), state.has_aux(b"other")) == (True, False)
    assert store.got == []
    assert store.got_at_once == [[AUX + b"one", AUX + b"other", RECORD + b"supply", RECORD + b"totals"]]
