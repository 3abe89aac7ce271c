"""Executing a database again: an honest one comes to the same, a tampered one is caught at the right height."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.chains import Town, stored
from tests.support.ledger import FREE

from fondaco.consensus import merkle
from fondaco.node.chain import Chain
from fondaco.node.genesis_file import export, read_genesis, state_path
from fondaco.node.replay import Differs, Replayed, replay
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Account, key_account
from fondaco.protocol.scalars import Hash, Height, MicroCredits, MicroStake, PublicKey, Signature
from fondaco.protocol.signing import sha256

QUIET: Any = FREE


class Scene:
    """A chain of ten blocks with a lease on it, in a file that anybody may change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.town = Town("alice", "bob", "paul", validators=4, initial_height=50, **QUIET)
        self.alice, self.bob, self.paul = self.town.actors("alice", "bob", "paul")
        self.chain = self.town.open(self.file)
        self.town.grow(self.chain, self.paul.registers())
        draft = self.alice.leases((self.paul, 3_600_000), deposit=90_000)
        self.town.grow(self.chain, draft)
        self.town.grow(self.chain, self.paul.activates(draft.lease, receipt_of=self.alice))
        for amount in range(1, 8):
            self.town.grow(self.chain, self.alice.pays(self.bob, amount), self.paul.withdraws(draft.lease))

    @property
    def file(self) -> Path:
        return self.path / "chain.db"

    def sql(self, statement: str, *values: Any) -> None:
        with sqlite3.connect(self.file) as database:
            assert database.execute(statement, values).rowcount == 1
        database.close()

    def set(self, height: int, *, block: Block | None = None, **columns: Any) -> None:
        if block is not None:
            columns |= {
                "body": codec.encode(block),
                "header": codec.encode(block.header),
                "hash": block.header.hash(),
            }
        for name, value in columns.items():
            self.sql(f"UPDATE blocks SET {name} = ? WHERE height = ?", value, height)

    def replay(self, **options: Any) -> Replayed:
        source = ChainStore.view(self.file)
        into = ChainStore.open(self.path / "again.db")
        try:
            return replay(source, self.town.genesis, None, into, **options)
        finally:
            source.close()
            into.close()
            for path in self.path.glob("again.db*"):
                path.unlink()

    def difference(self, **options: Any) -> Differs:
        with pytest.raises(Differs) as caught:
            self.replay(**options)
        return caught.value


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


def test_an_honest_database_comes_to_the_same_roots(scene: Scene) -> None:
    told: list[tuple[int, int]] = []
    found = scene.replay(progress=lambda done, last: told.append((done, last)))
    head = scene.chain.head
    assert (found.first, found.last, found.blocks, found.transactions) == (50, 59, 10, 17)
    assert found.hash == head.hash
    assert found.state_compared
    assert found.state_root == stored(scene.chain, head.height)[0].header.state_root
    assert told == [(height, 59) for height in range(50, 60)]


def test_it_stops_where_it_is_told_to(scene: Scene) -> None:
    found = scene.replay(to=Height(53))
    assert (found.last, found.blocks, found.state_compared) == (53, 4, False)
    assert found.hash == stored(scene.chain, 53)[0].header.hash()
    assert scene.replay(to=Height(49)).blocks == 0
    for height in (48, 60):
        with pytest.raises(Refused, match=r"replay\.height"):
            scene.replay(to=Height(height))


def test_a_chain_without_blocks_is_compared_with_its_genesis(tmp_path: Path) -> None:
    town = Town("alice", initial_height=50)
    town.open(tmp_path / "chain.db").close()
    source, into = ChainStore.view(tmp_path / "chain.db"), ChainStore.open(tmp_path / "again.db")
    found = replay(source, town.genesis, None, into)
    assert (found.blocks, found.last, found.state_compared) == (0, 49, True)
    source.close()
    into.close()


def test_the_chain_of_an_heir_is_executed_from_its_records(scene: Scene) -> None:
    out = scene.path / "genesis.json"
    export(scene.chain.store, out, name="heir", time=None, auditors=())
    heir = scene.town.reborn(read_genesis(out))
    chain: Chain = heir.open(scene.path / "heir.db", state_path(out))
    alice, bob = heir.actors("alice", "bob")
    for amount in (1, 2, 3):
        heir.grow(chain, alice.pays(bob, amount))
    into = ChainStore.open(scene.path / "again.db")
    found = replay(chain.store, heir.genesis, state_path(out), into)
    assert (found.first, found.blocks, found.hash) == (60, 3, chain.head.hash)
    chain.close()
    into.close()


def test_a_node_that_goes_on_meanwhile_does_not_disturb_it(scene: Scene) -> None:
    def more(done: int, last: int) -> None:
        if done == last:
            scene.town.grow(scene.chain, scene.alice.pays(scene.bob, 1))

    found = scene.replay(progress=more)
    assert (found.last, found.state_compared) == (59, False)


# Nothing to compare


def test_a_database_whose_old_blocks_are_gone_is_refused(scene: Scene) -> None:
    scene.chain.store.prune(Height(52))
    with pytest.raises(Refused) as caught:
        scene.replay()
    assert caught.value.code == "replay.pruned"
    assert "oldest block kept is 52" in caught.value.message


def test_a_database_that_began_with_a_state_of_later_is_refused(scene: Scene) -> None:
    with sqlite3.connect(scene.file) as database:
        database.execute("DELETE FROM blocks")
    database.close()
    with pytest.raises(Refused, match=r"replay\.pruned"):
        scene.replay()


def test_a_database_of_another_chain_is_refused(scene: Scene) -> None:
    scene.town.genesis = replace(scene.town.genesis, name="elsewhere")
    with pytest.raises(Refused, match=r"chain\.other"):
        scene.replay()


# Tampered


def resealed(scene: Scene, height: int, **header: Any) -> Block:
    block, _ = stored(scene.chain, height)
    return replace(block, header=replace(block.header, **header))


def certified(scene: Scene, block: Block) -> CommitCertificate:
    return scene.town.certified(block, scene.chain.ledger.validators)


def another_transaction(scene: Scene) -> None:
    block, _ = stored(scene.chain, 54)
    scene.set(54, block=replace(block, transactions=block.transactions[:1]))


def another_header(scene: Scene) -> None:
    scene.set(54, header=codec.encode(resealed(scene, 54, proposer=PublicKey(bytes(32))).header))


def another_hash(scene: Scene) -> None:
    scene.set(54, hash=bytes(32))


def another_block(scene: Scene) -> None:
    """Whole in itself, but nobody signed it."""
    scene.set(54, block=resealed(scene, 54, state_root=Hash(bytes(32))))


def a_block_signed_by_all(scene: Scene) -> None:
    """All validators lie together: then only executing it tells."""
    block = resealed(scene, 54, state_root=Hash(bytes(32)))
    scene.set(54, block=block, certificate=codec.encode(certified(scene, block)))


def a_block_against_the_rules(scene: Scene) -> None:
    block = resealed(scene, 54, time=1)
    scene.set(54, block=block, certificate=codec.encode(certified(scene, block)))


def a_weak_certificate(scene: Scene) -> None:
    _, certificate = stored(scene.chain, 54)
    signatures = (*certificate.signatures[:2], None, None)
    scene.set(54, certificate=codec.encode(replace(certificate, signatures=signatures)))


def a_forged_signature(scene: Scene) -> None:
    _, certificate = stored(scene.chain, 54)
    signatures = (*certificate.signatures[:3], Signature(bytes(64)))
    scene.set(54, certificate=codec.encode(replace(certificate, signatures=signatures)))


def a_certificate_of_another_height(scene: Scene) -> None:
    _, certificate = stored(scene.chain, 53)
    scene.set(54, certificate=codec.encode(certificate))


def garbage(scene: Scene) -> None:
    scene.set(54, body=b"garbage")


def no_block(scene: Scene) -> None:
    scene.sql("DELETE FROM blocks WHERE height = ?", 54)


def another_set(scene: Scene) -> None:
    scene.sql("UPDATE validator_sets SET value = ? WHERE height = ?", b"\x90", 54)


def no_set(scene: Scene) -> None:
    scene.sql("DELETE FROM validator_sets WHERE height = ?", 54)


@pytest.mark.parametrize(
    ("tamper", "code"),
    [
        (another_transaction, "replay.block"),
        (another_header, "replay.header"),
        (another_hash, "replay.header"),
        (another_block, "replay.block"),
        (a_block_signed_by_all, "replay.result"),
        (a_block_against_the_rules, "replay.refused"),
        (a_weak_certificate, "replay.certificate"),
        (a_forged_signature, "replay.certificate"),
        (a_certificate_of_another_height, "replay.certificate"),
        (garbage, "replay.malformed"),
        (no_block, "replay.missing"),
        (another_set, "replay.validators"),
        (no_set, "replay.validators"),
    ],
)
def test_a_tampered_block_is_found_at_its_height(scene: Scene, tamper: Callable[[Scene], None], code: str) -> None:
    tamper(scene)
    found = scene.difference()
    assert (found.code, found.height) == (code, 54), found
    assert scene.replay(to=Height(53)).blocks == 4


def a_credit_more(scene: Scene) -> None:
    key = b"r/" + key_account(scene.bob.key)
    account = codec.decode(scene.chain.store.get(key) or b"", Account)
    value = codec.encode(replace(account, credits=MicroCredits(account.credits + 1)))
    scene.sql("UPDATE records SET value = ? WHERE key = ?", value, key)


def an_account_gone(scene: Scene) -> None:
    scene.sql("DELETE FROM records WHERE key = ?", b"r/" + key_account(scene.bob.key))


def an_account_more(scene: Scene) -> None:
    account = codec.encode(Account(credits=MicroCredits(1), stake=MicroStake(0)))
    scene.sql("INSERT INTO records VALUES (?, ?)", b"r/" + key_account(PublicKey(sha256(b"nobody"))), account)


def the_root(scene: Scene) -> None:
    scene.sql("UPDATE records SET value = ? WHERE key = ?", b"\x01" + bytes(64), b"m/" + merkle.page_key(""))


def a_used_id(scene: Scene) -> None:
    scene.sql("INSERT INTO records VALUES (?, ?)", b"a/used/" + bytes(40), b"")


@pytest.mark.parametrize(
    ("tamper", "where"),
    [
        (a_credit_more, "record account/"),
        (an_account_gone, "record account/"),
        (an_account_more, "record account/"),
        (the_root, "tree page 00"),
        (a_used_id, "transaction id "),
    ],
)
def test_a_tampered_record_is_found_at_the_newest_height(
    scene: Scene, tamper: Callable[[Scene], None], where: str
) -> None:
    tamper(scene)
    found = scene.difference()
    assert (found.code, found.height) == ("replay.state", 59), found
    assert where in found.message
