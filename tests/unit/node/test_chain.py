"""A node's copy of the chain in a real file: what survives a restart, and who hears of a block."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.chains import Town, stored, town_chain

from fondaco.consensus.ledger.application import Execution
from fondaco.node.chain import read_genesis
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.scalars import Height, TxId


def applied(execution: Execution) -> list[TransactionApplied]:
    return [event for event in execution.events if isinstance(event, TransactionApplied)]


def test_an_opened_chain_stands_at_genesis(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        assert chain.is_empty
        assert chain.head.height == 0
        assert chain.certificate() is None
        assert chain.due_moment() is None
        assert chain.id == town.genesis.chain
        assert set(chain.ledger.validators.index) == set(town.keys)


def test_a_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "bob", validators=4) as (town, chain):
        alice, bob = town.actors("alice", "bob")
        for amount in (1, 2, 3):
            town.grow(chain, alice.pays(bob, amount))
        head, sets = chain.head, chain.ledger.validators
        chain.close()
        again = town.open(tmp_path / "chain.db")
        assert again.head == head
        assert not again.is_empty
        assert again.ledger.validators == sets
        certificate = again.certificate()
        assert certificate is not None
        assert certificate.value == head.hash
        town.grow(again, bob.pays(alice, 1))
        assert again.head.height == 4
        again.close()


def test_two_nodes_that_commit_the_same_blocks_hold_the_same_state(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "bob") as (town, chain):
        alice, bob = town.actors("alice", "bob")
        other = town.open(tmp_path / "other.db")
        for amount in (1, 2):
            town.grow(chain, alice.pays(bob, amount))
        town.copy(chain, other)
        assert other.head == chain.head
        assert stored(other, 2) == stored(chain, 2)
        other.close()


def test_another_chains_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        town.grow(chain)
        other = Town("alice", name="village")
        with pytest.raises(Refused) as refusal:
            other.open(tmp_path / "chain.db")
        assert refusal.value.code == "chain.other"
        assert other.genesis.chain in refusal.value.message
        assert refusal.value.hint
        assert town.open(tmp_path / "chain.db").head.height == 1


def test_validator_sets_are_known_for_the_next_height_and_for_all_below(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", validators=4) as (town, chain):
        first = chain.validators_at(Height(1))
        assert first is not None
        town.grow(chain)
        town.grow(chain)
        assert chain.validators_at(Height(3)) == chain.ledger.validators
        for height in (1, 2):
            found = chain.validators_at(Height(height))
            assert found is not None
            assert found.hash == first.hash
        assert chain.validators_at(Height(4)) is None
        assert chain.validators_at(Height(0)) is None


async def test_listeners_are_called_in_order_before_the_bell_rings(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "bob") as (town, chain):
        order: list[str] = []
        waiting = chain.news.next

        def listener(name: str) -> Callable[[Execution], None]:
            def hear(execution: Execution) -> None:
                assert chain.head.height == execution.block.header.height, "it is committed already"
                assert not waiting.is_set()
                order.append(name)

            return hear

        chain.listeners += [listener("mempool"), listener("book"), listener("provider")]
        town.grow(chain)
        assert order == ["mempool", "book", "provider"]
        assert waiting.is_set()
        with trio.fail_after(1):
            await chain.wait_first_block()


async def test_whoever_waits_for_the_first_block_is_woken_by_it(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice") as (town, chain):
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chain.wait_first_block)
                await trio.testing.wait_all_tasks_blocked()
                town.grow(chain)


def test_what_became_of_a_transaction_is_remembered(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "bob") as (town, chain):
        alice, bob = town.actors("alice", "bob")
        good, broke = alice.pays(bob, 1), bob.pays(alice, 10**12)
        found = applied(town.grow(chain, good, broke))
        first, second = (chain.inclusion(one.id) for one in found)
        assert first is not None
        assert second is not None
        assert (first.height, first.code) == (1, "")
        assert second.code == "funds.credits"
        assert second.message
        assert chain.inclusion(TxId(bytes(32))) is None


def test_the_index_of_transactions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INCLUSIONS", 3)
    with town_chain(tmp_path, "alice", "bob") as (town, chain):
        alice, bob = town.actors("alice", "bob")
        found = [applied(town.grow(chain, alice.pays(bob, 1)))[0].id for _ in range(5)]
        assert [chain.inclusion(one) is not None for one in found] == [False, False, True, True, True]


def test_a_due_moment_is_the_ledgers(tmp_path: Path) -> None:
    with town_chain(tmp_path, "alice", "paul") as (town, chain):
        alice, paul = town.actors("alice", "paul")
        town.grow(chain, paul.registers())
        town.grow(chain, alice.leases((paul, 900), deposit=10_000))
        assert chain.due_moment() == chain.head.time + chain.ledger.params.handoff_window_ms


def test_a_genesis_file_is_read_or_refused(tmp_path: Path) -> None:
    path, town = tmp_path / "genesis.json", Town("alice")
    with pytest.raises(Refused) as refusal:
        read_genesis(path)
    assert refusal.value.code == "genesis.missing"
    for text in (b"{", b"\xff", b"{}", b"[]"):
        path.write_bytes(text)
        with pytest.raises(Refused) as refusal:
            read_genesis(path)
        assert refusal.value.code == "genesis.malformed"
    path.unlink()
    path.mkdir()
    with pytest.raises(Refused) as refusal:
        read_genesis(path)
    assert refusal.value.code == "genesis.malformed"
    path.rmdir()
    path.write_text(json.dumps(town.genesis.to_json()), encoding="utf-8")
    assert read_genesis(path) == town.genesis
