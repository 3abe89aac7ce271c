"""A chain that begins at height 1,000: in a node's files, for those who catch up, and for light clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import Town
from tests.support.ledger import RICH
from tests.support.light import Full, asking

from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.genesis_file import export, state_path
from fondaco.node.sync import Sync, SyncService
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Account, key_account

FIRST = 1_000


def grown(town: Town, chain: Chain, blocks: int = 5) -> Chain:
    alice, bob = town.actors("alice", "bob")
    for amount in range(1, blocks + 1):
        town.grow(chain, alice.pays(bob, amount), at=clock.now() - 10_000 + amount)
    return chain


def test_a_node_goes_on_after_a_restart_even_before_its_first_block(tmp_path: Path) -> None:
    town = Town("alice", "bob", validators=4, initial_height=FIRST)
    for _ in range(2):
        chain = town.open(tmp_path / "chain.db")
        assert chain.is_empty
        assert (chain.head.height, chain.store.first_height(), chain.certificate()) == (FIRST - 1, None, None)
        chain.close()
    chain = grown(town, town.open(tmp_path / "chain.db"))
    assert chain.store.first_height() == FIRST
    chain.close()
    again = town.open(tmp_path / "chain.db")
    assert not again.is_empty
    assert again.head.height == FIRST + 4
    again.close()


async def test_a_newcomer_fetches_the_chain_from_its_first_height(tmp_path: Path) -> None:
    town = Town("alice", "bob", validators=4, initial_height=FIRST)
    full, learner = grown(town, town.open(tmp_path / "full.db"), 7), town.open(tmp_path / "learner.db")
    methods: dict[str, Callable[..., Awaitable[Any]]] = SyncService(full).methods()

    async def call(peer: str, method: str, params: list[Any]) -> Any:
        return await methods[method](peer, params)

    async def apply(block: Block, certificate: CommitCertificate) -> bool:
        learner.commit(block, certificate)
        return True

    def blame(peer: str, fault: Exception) -> None:
        pytest.fail(f"{peer} was blamed: {fault}")

    sync = Sync(learner, lambda: ["full"], call, apply, blame)
    with trio.fail_after(10):
        await sync._catch_up()
    assert learner.head == full.head
    assert sync.fetched == 7
    for chain in (full, learner):
        chain.close()


async def test_a_light_client_climbs_from_genesis_to_the_first_block_and_beyond(tmp_path: Path) -> None:
    town = Town("alice", "bob", validators=4, initial_height=FIRST)
    chain = town.open(tmp_path / "chain.db")
    key = key_account(town.actors("bob")[0].key)
    try:
        grown(town, chain, 1)
        async with asking(chain, Full(chain).methods()) as asked:
            assert asked.client.trusted.height == FIRST - 1
            first = await asked.client.record(key, Account)
            assert first is not None
            assert (first.credits, asked.client.trusted.height) == (RICH + 1, FIRST)
            grown(town, chain, 3)
            later = await asked.client.record(key, Account)
            assert later is not None
            assert (later.credits, asked.client.trusted.height) == (RICH + 1 + 6, FIRST + 3)
            for height in (FIRST - 1, 1):
                with pytest.raises(Refused, match=r"block\.unknown"):
                    await asked.client.block(asked.peer(0), height)
    finally:
        chain.close()


async def test_a_light_client_follows_a_chain_that_goes_on_as_another_while_its_validators_change(
    tmp_path: Path,
) -> None:
    """What a bond of the old chain is still to change, it changes on the new one."""
    town = Town("alice", "bob", "eve", validators=4, initial_height=FIRST)
    eve = town.actors("eve")[0]
    old = grown(town, town.open(tmp_path / "old.db"), 3)
    town.grow(old, eve.bonds(9_000_000), at=clock.now() - 9_000)
    out = tmp_path / "genesis.json"
    made = export(old.store, out, name="heir", time=None, auditors=())
    old.close()
    heir = town.reborn(made.genesis)
    heir.keys = {**town.keys, eve.key: eve.signer}
    chain = heir.open(tmp_path / "heir.db", state_path(out))
    try:
        alice, bob = heir.actors("alice", "bob")
        for amount in range(1, 5):
            heir.grow(chain, alice.pays(bob, amount))
        assert len(chain.ledger.validators.members) == 5
        async with asking(chain, Full(chain).methods()) as asked:
            assert (asked.client.trusted.height, asked.client.chain) == (FIRST + 3, made.genesis.chain)
            found = await asked.client.record(key_account(eve.key), Account)
            assert found is not None
            assert asked.client.trusted.height == FIRST + 7
    finally:
        chain.close()
