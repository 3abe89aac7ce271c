"""What a light client remembers, where it may begin anew, and what it can show to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import Town, stored
from tests.support.forked import Scene, anchored, genesis_expired, refused
from tests.support.ledger import RICH
from tests.support.light import Full, asking

from fondaco.consensus.light import TRUSTING_PERIOD_MS
from fondaco.consensus.proof import verify_proof
from fondaco.node import clock
from fondaco.node.tenant.light import LightClient
from fondaco.node.tenant.trust import TrustStore
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.records import Account
from fondaco.protocol.scalars import Height, Millis


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()
    scene.forked.close()


# Going on from what was trusted


async def test_a_client_goes_on_from_the_header_it_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        with genesis_expired(monkeypatch):
            with refused("light.expired", "HEIGHT:HASH"):
                await asked.client.record(scene.key, Account)
            client = anchored(asked, scene, 2)
            found = await client.record(scene.key, Account)
            assert found is not None
            assert client.trusted.height == 4


async def test_an_anchor_whose_parts_do_not_belong_together_is_no_anchor(scene: Scene) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        block = scene.block(scene.chain, 2)
        other = Town("alice", validators=4, name="elsewhere").genesis
        with pytest.raises(PeerFault):
            LightClient(
                scene.chain.genesis, asked.client.host, [], anchor=replace(block, validators=block.validators[:2])
            )
        with pytest.raises(PeerFault, match=r"light\.chain"):
            LightClient(other, asked.client.host, [], anchor=block)


async def test_a_node_that_lags_is_checked_by_hashes_where_genesis_has_expired(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        client = anchored(asked, scene, 4)
        with genesis_expired(monkeypatch):
            await client._trust(asked.peer(0), scene.block(scene.chain, 2))
            assert sorted(client.verified) == [2, 4]
            await client._trust(asked.peer(0), scene.block(scene.chain, 1))
            client = anchored(asked, scene, 4)
            with pytest.raises(PeerFault, match=r"light\.hash"):
                await client._trust(asked.peer(0), scene.block(scene.forked, 3))
            monkeypatch.setattr(limits, "BACKWARD_HEADERS", 1)
            with refused("light.behind"):
                await client._trust(asked.peer(0), scene.block(scene.chain, 1))


async def test_a_node_below_what_is_trusted_is_waited_for_where_genesis_has_expired(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    late = scene.town.open(tmp_path / "late.db")
    first, certificate = stored(scene.chain, 1)
    late.commit(first, certificate)
    async with asking(scene.chain, *scene.nodes(late)) as asked:
        client = anchored(asked, scene, 4)
        with genesis_expired(monkeypatch), trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.record, scene.key, Account)
                await trio.sleep(0.1)
                scene.town.copy(scene.chain, late)
        assert asked.left_out() == []
    late.close()


async def test_a_node_that_shows_false_headers_on_the_way_down_is_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(scene.chain, *scene.nodes(scene.forked, scene.chain)) as asked:
        client = anchored(asked, scene, 4)
        with genesis_expired(monkeypatch):
            await client._trust(asked.peer(1), scene.block(scene.chain, 2))
        assert 2 in client.verified


async def test_there_is_no_block_at_or_below_genesis(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    block = scene.block(scene.chain, 1)
    header = replace(block.signed.header, height=Height(0))
    certificate = replace(block.signed.certificate, height=Height(0), value=header.hash())
    none = replace(block, signed=replace(block.signed, header=header, certificate=certificate))
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        with pytest.raises(PeerFault, match=r"light\.height"):
            await asked.client._trust(asked.peer(0), none)
        with genesis_expired(monkeypatch), pytest.raises(PeerFault, match=r"light\.height"):
            await asked.client._trust(asked.peer(0), none)


async def test_only_so_many_headers_are_remembered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIGHT_BLOCKS_KEPT", 2)
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        for height in (1, 2, 3):
            await asked.client._trust(asked.peer(0), scene.block(scene.chain, height))
        assert sorted(asked.client.verified) == [2, 3]


# Anchoring anew


async def test_a_header_the_user_vouches_for_replaces_an_expired_genesis(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        with genesis_expired(monkeypatch):
            await asked.client.anchor_at(scene.id(3))
            assert asked.client.trusted.height == 3
            assert await asked.client.record(scene.key, Account) is not None


async def test_an_anchor_must_agree_with_what_is_trusted_and_with_the_network(scene: Scene) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        with refused("light.anchor", "another one"):
            await asked.client.anchor_at(scene.id(3, scene.forked))
        client = anchored(asked, scene, 3)
        with refused("light.anchor", "contradicts"):
            await client.anchor_at(scene.id(3, scene.forked))
        await client.anchor_at(scene.id(2))
        assert client.trusted.height == 3, "what was verified stays so"
        await client.anchor_at(scene.id(4))
        assert client.trusted.height == 4


async def test_an_anchor_that_no_trusted_validator_signed_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash is as the user said, but it does not follow from what was verified: one of the two is wrong."""
    good = scene.block(scene.chain, 4)
    unsigned = replace(good.signed.certificate, signatures=(None, None, None, None))
    bare = replace(good, signed=replace(good.signed, certificate=unsigned))

    async def block(peer: str, params: Any) -> Any:
        return codec.encode(bare)

    async with asking(scene.chain, Full(scene.chain).methods(block=block)) as asked:
        with refused("light.anchor", "compare both"):
            await asked.client.anchor_at(scene.id(4))


# The file


def store_of(scene: Scene, home: Path) -> TrustStore:
    return TrustStore(home, scene.chain.genesis.hash())


def test_the_newest_header_is_kept_and_never_one_below(scene: Scene, tmp_path: Path) -> None:
    store = store_of(scene, tmp_path)
    assert store.load() is None
    for height, kept in ((2, 2), (4, 4), (3, 4), (4, 4)):
        store.save(scene.block(scene.chain, height))
        assert store.load() == scene.block(scene.chain, kept)


def test_a_contradiction_is_told_and_nothing_overwritten(scene: Scene, tmp_path: Path) -> None:
    store = store_of(scene, tmp_path)
    store.save(scene.block(scene.chain, 4))
    with refused("trust.contradicts"):
        store.save(scene.block(scene.forked, 4))
    assert store.load() == scene.block(scene.chain, 4)


def test_a_header_that_has_expired_is_not_gone_on_from(scene: Scene, tmp_path: Path) -> None:
    store = store_of(scene, tmp_path)
    store.save(scene.block(scene.chain, 4))
    assert store.load_fresh(clock.now()) is not None
    assert store.load_fresh(Millis(clock.now() + TRUSTING_PERIOD_MS)) is None


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw * 40])
def test_a_damaged_file_is_told(scene: Scene, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = store_of(scene, tmp_path)
    store.save(scene.block(scene.chain, 4))
    store.path.write_bytes(damage(store.path.read_bytes()))
    with refused("trust.malformed", "remove it"):
        store.load()


# Proofs for others


async def test_a_proof_is_made_from_genesis_or_from_a_header_named(scene: Scene) -> None:
    genesis_trust = None
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        genesis_trust = asked.client._genesis_trust
        proof = await asked.client.prove(scene.key)
        anchored_proof = await asked.client.prove(scene.key, start=2)
        newest = await asked.client.prove(scene.key, start=99)
        absent = await asked.client.prove(b"account/" + bytes(32))
    found = verify_proof(codec.encode(proof), genesis_trust, now=clock.now())
    assert found.header.hash() == scene.chain.head.hash
    assert codec.decode(found.value or b"", Account).credits == RICH + 10
    assert verify_proof(codec.encode(anchored_proof), scene.id(2), now=clock.now()).steps == 2
    assert verify_proof(codec.encode(newest), scene.id(4), now=clock.now()).steps == 1
    assert verify_proof(codec.encode(absent), scene.id(4), now=clock.now()).value is None


async def test_where_genesis_has_expired_a_proof_begins_at_the_client_s_own_anchor(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        with genesis_expired(monkeypatch):
            proof = await anchored(asked, scene, 3).prove(scene.key)
    assert [step.signed.header.height for step in proof.path] == [3, 4]
