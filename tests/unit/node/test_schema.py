"""Older databases are brought up to date, and say the same as before."""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.chains import Town
from tests.support.old_tree import make_old

from fondaco.consensus import merkle
from fondaco.consensus.ledger.carrying import every
from fondaco.consensus.ledger.state import NODE
from fondaco.node import schema
from fondaco.node.chain import Chain
from fondaco.node.storage import ChainStore
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import key_account
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.signing import sha256

NOBODY = PublicKey(bytes(32))


@pytest.fixture
def town(tmp_path: Path) -> tuple[Town, Path]:
    """A chain of some blocks and a few hundred accounts, in a closed file."""
    town = Town(*(f"person {number}" for number in range(300)))
    chain = town.open(tmp_path / "chain.db")
    people = town.actors("person 0", "person 1", "person 2")
    for sender, receiver in pairwise(people):
        town.grow(chain, sender.pays(receiver, 5))
    chain.close()
    return town, tmp_path / "chain.db"


def pages(chain: Chain) -> list[tuple[bytes, bytes]]:
    return list(every(chain.store, NODE))


@pytest.mark.parametrize("batch", [7, 5_000])
def test_a_tree_of_nodes_becomes_a_tree_of_pages_with_the_same_root(
    town: tuple[Town, Path], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BATCH_RECORDS", batch)
    people, path = town
    chain = people.open(path)
    before, head = pages(chain), chain.head
    chain.close()
    make_old(path)
    chain = people.open(path)
    assert (pages(chain), chain.head) == (before, head)
    signed = chain.store.signed_header(head.height)
    assert signed is not None
    for key in (key_account(people.actors("person 7")[0].key), key_account(NOBODY)):
        value, proof = chain.ledger.prove(key)
        assert merkle.holds(signed.header.state_root, key, value, proof)
    people.grow(chain, people.actors("person 5")[0].pays(people.actors("person 6")[0], 1))
    chain.close()


def test_an_old_tree_whose_root_is_not_that_of_its_records_is_refused_and_left_alone(
    town: tuple[Town, Path],
) -> None:
    people, path = town
    make_old(path)
    key = b"r/" + key_account(people.actors("person 3")[0].key)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM records WHERE key = ?", (key,))
        before = db.execute("SELECT * FROM records").fetchall()
    db.close()
    with pytest.raises(Refused, match="state root") as caught:
        ChainStore.open(path)
    assert caught.value.code == "storage.corrupt"
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT * FROM records").fetchall() == before
    db.close()


def test_an_old_database_is_not_looked_at_before_its_node_has_brought_it_up_to_date(
    town: tuple[Town, Path],
) -> None:
    people, path = town
    make_old(path)
    before = sha256(path.read_bytes())
    with pytest.raises(Refused) as caught:
        ChainStore.view(path)
    assert caught.value.code == "storage.older"
    assert sha256(path.read_bytes()) == before
    people.open(path).close()
    ChainStore.view(path).close()


def test_what_a_newer_program_wrote_is_not_looked_at_either(town: tuple[Town, Path]) -> None:
    _, path = town
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO _sqlite_migrations VALUES (NULL, 'chain', 'from_the_future', 'now')")
    db.close()
    with pytest.raises(Refused, match="from_the_future") as caught:
        ChainStore.view(path)
    assert caught.value.code == "storage.newer"
