"""The ledger's benchmark on states of a few records: that it measures what it says, not how long it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fondaco.consensus import merkle
from fondaco.consensus.ledger.carrying import every
from fondaco.consensus.ledger.state import RECORD, State
from fondaco.node.bench import ledger, ledger_state
from fondaco.node.bench.stopwatch import Stopwatch
from fondaco.node.storage import ChainStore

SIZES = (100, 1_000)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ROUNDS": 1,
        "TRANSFERS": 20,
        "LEASES": 5,
        "SAMPLES": 4,
        "FLAT_BLOCKS": 10,
        "FLAT_TRANSFERS": 2,
    }.items():
        monkeypatch.setattr(ledger, name, value)


def test_it_tells_each_size_its_parts_and_the_machines_limits(small: None) -> None:
    result = ledger.measure(SIZES)
    names = set(result.figures)
    for label in ("1e2", "1e3"):
        for kind in ("transfer", "lease"):
            assert {f"{kind}_{part}_ms_{label}" for part in ("block", *ledger.PARTS)} <= names
        assert {f"settle_us_{label}", f"due_us_{label}", f"proof_bytes_{label}"} <= names
        assert {f"read_rows_ms_{label}", f"write_rows_ms_{label}"} <= set(result.limit)
    assert {"transfer_1e3_by_1e2", "lease_1e3_by_1e2", "rss_growth_mb_10_blocks", "rss_peak_mb"} <= names
    assert all(figure.value > 0 for name, figure in result.figures.items() if "rss_growth" not in name)


def test_the_state_it_makes_is_one_that_the_ledger_goes_on_from(tmp_path: Path) -> None:
    path = tmp_path / "1000.db"
    ledger_state.populate(path, 1_000)
    store = ChainStore.open(path)
    records = [(key[len(RECORD) :], value) for key, value in every(store, RECORD)]
    assert 1_000 <= len(records) < 1_100
    assert State(store).seal() == merkle.root_over(records)
    store.close()
    chain = ledger.Bench(tmp_path, 1_000)
    chain.block(chain.registrations())
    chain.block(chain.transfers(30))
    chain.block(chain.leases())
    assert chain.ledger.head.height == chain.proposer.head.height == 3
    assert chain.settle() > 0
    chain.block(chain.transfers(1))
    records = [(key[len(RECORD) :], value) for key, value in every(chain.store, RECORD)]
    assert chain.ledger.state().seal() == merkle.root_over(records)
    chain.close()


def test_parts_add_up_to_the_whole() -> None:
    watch = Stopwatch()

    class Work:
        def inner(self) -> int:
            return sum(range(1_000))

    work = Work()
    with watch.watching((work, "inner", "inside")), watch.part("outside"):
        assert work.inner() == 499_500
        with watch.part("inside"):
            pass
    assert set(watch.seconds) == {"outside", "inside"}
    assert min(watch.seconds.values()) > 0
    work.inner()
    with watch.part("outside"):
        before = dict(watch.seconds)
        work.inner()
    assert watch.seconds["inside"] == before["inside"], "it is only watched within"


def test_sizes_are_named_by_their_power_of_ten() -> None:
    assert [ledger.label(records) for records in (100, 1_000_000, 1_500)] == ["1e2", "1e6", "1500"]
