"""Genesis files: exported from a node's database, judged, and begun from; big, broken and forged ones."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import Town
from tests.support.heirs import committed
from tests.support.ledger import FREE, RICH

from fondaco.consensus import merkle
from fondaco.consensus.ledger.accounts import check_supply
from fondaco.consensus.ledger.carrying import Record
from fondaco.consensus.ledger.genesis import Genesis, GenesisState
from fondaco.node import genesis_file
from fondaco.node.chain import Chain
from fondaco.node.genesis_file import check, export, read_genesis, read_state, state_path
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import (
    SUPPLY,
    TOTALS,
    Account,
    Lease,
    LeaseState,
    Supply,
    Totals,
    key_account,
    key_lease,
)
from fondaco.protocol.scalars import MicroCredits, MicroStake, Millis, PublicKey

RATE = 3_600_000
QUIET: Any = FREE


class Scene:
    """A chain with a lease on it, and what was exported from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.town = Town("alice", "bob", "paul", validators=4, **QUIET)
        self.alice, self.bob, self.paul = self.town.actors("alice", "bob", "paul")
        self.chain = self.town.open(path / "old.db")
        self.town.grow(self.chain, self.paul.registers())
        self.draft = self.alice.leases((self.paul, RATE), deposit=90_000_000)
        self.town.grow(self.chain, self.draft)
        self.town.grow(self.chain, self.paul.activates(self.draft.lease, receipt_of=self.alice))
        self.out = path / "genesis.json"
        self.checked = export(self.chain.store, self.out, name="heir", time=None, auditors=())

    def records(self) -> dict[bytes, bytes]:
        return dict(read_state(state_path(self.out)))

    def rewrite(self, records: dict[bytes, bytes], **document: Any) -> None:
        """Put other records, and other words of the document, in place of the exported ones."""
        rows = sorted(records.items())
        packed = b"".join(struct.pack(">HI", len(key), len(value)) + key + value for key, value in rows)
        state_path(self.out).write_bytes(genesis_file.MAGIC + packed)
        if document:
            self.out.write_text(json.dumps(read_genesis(self.out).to_json() | document))

    def code(self) -> str:
        """How the file is judged, by `check` and by a node that begins: alike."""
        with pytest.raises(Refused) as checked:
            check(self.out)
        with pytest.raises(Refused) as opened:
            Chain.open(read_genesis(self.out), self.path / "new.db", state_path(self.out))
        assert checked.value.code == opened.value.code
        return checked.value.code


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


def test_a_chain_begun_from_an_export_goes_on_where_the_old_one_stood(scene: Scene) -> None:
    genesis = read_genesis(scene.out)
    assert genesis == scene.checked.genesis
    assert genesis.name == "heir"
    heir = scene.town.reborn(genesis)
    chain = heir.open(scene.path / "new.db", state_path(scene.out))
    assert chain.is_empty
    assert chain.head.height == scene.chain.head.height
    (paul,) = heir.actors("paul")
    before = chain.ledger.state().require(key_account(paul.key), Account).credits
    execution = heir.grow(chain, paul.withdraws(scene.draft.lease), at=chain.head.time + 10_000)
    assert execution.block.header.height == scene.chain.head.height + 1
    after = chain.ledger.state().require(key_account(paul.key), Account).credits
    assert after == before + 10_000 * RATE // 3_600_000
    check_supply(chain.ledger.state())
    chain.close()
    again = heir.open(scene.path / "new.db")  # from now on the records' file is not needed
    assert again.head.hash == execution.block.header.hash()
    again.close()


def test_what_is_checked_is_what_was_exported(scene: Scene) -> None:
    checked = check(scene.out)
    assert checked == scene.checked
    assert checked.supply == scene.chain.ledger.state().require(SUPPLY, Supply)
    assert checked.genesis.state == GenesisState(records=checked.records, root=checked.state_root)
    assert not [path for path in scene.path.iterdir() if path.suffix == ".tmp"]


def test_a_genesis_that_lists_its_accounts_is_checked_too(scene: Scene) -> None:
    path = scene.path / "plain.json"
    path.write_text(json.dumps(scene.town.genesis.to_json()))
    checked = check(path)
    assert checked.supply.credits == 3 * RICH
    first = scene.chain.store.get(b"r/" + SUPPLY)
    assert first == codec.encode(checked.supply), "nothing was minted since"
    assert checked.records > 6


def test_every_export_of_one_height_is_the_same_to_the_byte(scene: Scene) -> None:
    """So everybody who has the old chain can make the new genesis, and compare."""
    other = scene.path / "other"
    other.mkdir()
    export(scene.chain.store, other / "genesis.json", name="heir", time=None, auditors=())
    for name in ("genesis.json", "genesis.state"):
        assert (other / name).read_bytes() == (scene.path / name).read_bytes()


def test_exported_again_from_the_new_chain_the_records_are_the_same(scene: Scene) -> None:
    chain = scene.town.reborn(read_genesis(scene.out)).open(scene.path / "new.db", state_path(scene.out))
    again = export(chain.store, scene.path / "again.json", name="other", time=None, auditors=())
    chain.close()
    assert (scene.path / "again.state").read_bytes() == (scene.path / "genesis.state").read_bytes()
    assert again.genesis == replace(scene.checked.genesis, name="other")


# Refused


def test_one_credit_more_is_refused(scene: Scene) -> None:
    records = scene.records()
    key = key_account(scene.alice.key)
    account = codec.decode(records[key], Account)
    records[key] = codec.encode(replace(account, credits=MicroCredits(account.credits + 1)))
    scene.rewrite(records)
    assert scene.code() == "genesis.state"
    forged = committed(scene.checked.genesis, sorted(records.items()))
    scene.rewrite(records, state=forged.to_json()["state"])
    assert scene.code() == "genesis.supply"
    lease = key_lease(scene.draft.lease)
    scene.rewrite(
        {key: value for key, value in scene.records().items() if key != lease}, state=state_without(scene, lease)
    )
    assert scene.code() == "genesis.record"


def state_without(scene: Scene, gone: bytes) -> Any:
    rest = [(key, value) for key, value in sorted(scene.records().items()) if key != gone]
    return committed(scene.checked.genesis, rest).to_json()["state"]


def test_a_refused_genesis_leaves_nothing_behind_that_a_good_one_would_trip_over(scene: Scene) -> None:
    good = state_path(scene.out).read_bytes()
    state_path(scene.out).write_bytes(good[:-1])
    assert scene.code() == "genesis.state"
    state_path(scene.out).write_bytes(good)
    chain = scene.town.reborn(read_genesis(scene.out)).open(scene.path / "new.db", state_path(scene.out))
    assert chain.head.height == 3
    chain.close()


def test_a_file_that_is_cut_off_anywhere_or_is_another_is_refused(scene: Scene) -> None:
    whole = state_path(scene.out).read_bytes()
    for broken in (
        b"",
        b"fondaco",
        b"another file altogether" * 9,
        *(whole[:end] for end in range(24, len(whole), 97)),
    ):
        state_path(scene.out).write_bytes(broken)
        with pytest.raises(Refused, match=r"genesis\.state"):
            check(scene.out)
    state_path(scene.out).write_bytes(genesis_file.MAGIC + struct.pack(">HI", 1, limits.GENESIS_RECORD_BYTES))
    assert scene.code() == "genesis.state"


def test_a_missing_file_is_named(scene: Scene) -> None:
    state_path(scene.out).unlink()
    assert scene.code() == "genesis.state_missing"
    with pytest.raises(Refused, match=r"genesis\.state_missing"):
        Chain.open(read_genesis(scene.out), scene.path / "new.db")
    state_path(scene.out).mkdir()
    assert scene.code() == "genesis.state"


def test_nothing_is_overwritten_and_what_cannot_be_written_is_told(scene: Scene) -> None:
    for out, code in (
        (scene.out, "genesis.exists"),
        (scene.path / "genesis.yaml", "genesis.exists"),  # its records' file is there
        (scene.path / "new.state", "genesis.unwritable"),
        (scene.path / "nowhere" / "genesis.json", "genesis.unwritable"),
    ):
        with pytest.raises(Refused) as caught:
            export(scene.chain.store, out, name="heir", time=None, auditors=())
        assert caught.value.code == code
    with pytest.raises(Refused, match=r"genesis\.malformed"):
        export(scene.chain.store, scene.path / "x.json", name="", time=None, auditors=())
    with pytest.raises(Refused, match=r"genesis\.time"):
        export(scene.chain.store, scene.path / "x.json", name="x", time=Millis(1), auditors=())


def test_an_export_of_a_database_that_was_changed_is_refused_and_leaves_no_file(scene: Scene) -> None:
    totals = codec.decode(scene.chain.store.get(b"r/" + TOTALS) or b"", Totals)
    bent = replace(totals, pool_credits=MicroCredits(totals.pool_credits + 1))
    scene.chain.store.commit({b"r/" + TOTALS: codec.encode(bent)})
    with pytest.raises(Refused, match=r"genesis\.supply"):
        export(scene.chain.store, scene.path / "x.json", name="x", time=None, auditors=())
    assert not list(scene.path.glob("*x.*"))


# Large


def crowd(scene: Scene, count: int) -> tuple[Genesis, list[Record]]:
    """The exported state with so many more accounts, of one ucredit each, and the money for them."""
    records = scene.records()
    for number in range(count):
        owner = PublicKey(b"crowd" + number.to_bytes(27, "big"))
        records[key_account(owner)] = codec.encode(Account(credits=MicroCredits(1), stake=MicroStake(0)))
    totals, supply = codec.decode(records[TOTALS], Totals), codec.decode(records[SUPPLY], Supply)
    records[TOTALS] = codec.encode(replace(totals, account_credits=MicroCredits(totals.account_credits + count)))
    records[SUPPLY] = codec.encode(replace(supply, credits=MicroCredits(supply.credits + count)))
    rows = sorted(records.items())
    state = GenesisState(records=len(rows), root=merkle.root_over(rows))
    scene.rewrite(records, state={"records": state.records, "root": state.root.hex()})
    return read_genesis(scene.out), rows


@pytest.mark.heavy
def test_a_node_that_begins_holds_a_batch_and_a_few_bytes_of_each_record(scene: Scene) -> None:
    genesis, rows = crowd(scene, 20_000)
    del rows
    tracemalloc.start()
    chain = scene.town.reborn(genesis).open(scene.path / "new.db", state_path(scene.out))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 24 * limits.MIB, "of 20,000 records"
    assert chain.ledger.state().require(key_lease(scene.draft.lease), Lease).state == LeaseState.ACTIVE
    chain.close()


def test_more_records_than_one_batch_holds(scene: Scene) -> None:
    genesis, rows = crowd(scene, limits.GENESIS_BATCH_RECORDS + 5)
    chain = scene.town.reborn(genesis).open(scene.path / "new.db", state_path(scene.out))
    state = chain.ledger.state()
    assert state.seal() == merkle.root_over(rows)
    check_supply(state)
    scene.town.reborn(genesis).grow(chain)
    again = export(chain.store, scene.path / "again.json", name="again", time=None, auditors=())
    assert again.supply == check(scene.out).supply
    chain.close()
