"""What a light client compares among nodes, and what it does when validators sign two chains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.forked import Scene, anchored, genesis_expired, refused
from tests.support.light import Full, asking

from fondaco.consensus.light import Bisection
from fondaco.node.tenant import headers
from fondaco.node.tenant.trust import write_evidence
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.light import Fork
from fondaco.protocol.records import Account
from fondaco.protocol.scalars import Hash


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()
    scene.forked.close()


# Witnesses


async def test_a_header_that_others_confirm_is_cross_checked_once_however_many_want_it(scene: Scene) -> None:
    asked_for: list[str] = []
    full = Full(scene.chain)

    async def block(peer: str, params: Any) -> Any:
        asked_for.append(peer)
        return await full.service.block(peer, params)

    async with asking(scene.chain, full.methods(), full.methods(block=block)) as asked:
        client = asked.client
        await client.cross_check()
        assert asked_for == [], "nothing is trusted yet but genesis"
        await client._trust(asked.peer(0), scene.block(scene.chain, 4))
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(client.cross_check)
        await client.cross_check()
        assert len(asked_for) == 1


async def test_a_client_of_one_node_has_nobody_to_compare_with(scene: Scene) -> None:
    async with asking(scene.chain, *scene.nodes(scene.chain)) as asked:
        await asked.client.record(scene.key, Account)
        await asked.client.cross_check()


async def test_a_witness_that_lags_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    late = scene.town.open(tmp_path / "late.db")
    async with asking(scene.chain, *scene.nodes(scene.chain, late)) as asked:
        await asked.client._trust(asked.peer(0), scene.block(scene.chain, 4))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked.client.cross_check)
            await trio.sleep(0.05)
            scene.town.copy(scene.chain, late)
    late.close()


async def test_witnesses_that_say_nothing_of_use_confirm_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stall(peer: str, params: Any) -> Any:
        await trio.sleep_forever()

    async def refuse(peer: str, params: Any) -> Any:
        raise Refused("some.reason", "no")

    monkeypatch.setattr(limits, "WITNESS_MS", 200)
    full = Full(scene.chain)
    for mute in (stall, refuse):
        async with asking(scene.chain, full.methods(), full.methods(block=mute)) as asked:
            await asked.client._trust(asked.peer(0), scene.block(scene.chain, 4))
            with refused("light.no_witness"):
                await asked.client.cross_check()


async def test_a_witness_that_lies_is_left_out_and_does_not_stop_anything(scene: Scene) -> None:
    true = scene.block(scene.chain, 4)
    header = replace(true.signed.header, state_root=Hash(bytes(32)))

    async def lie(peer: str, params: Any) -> Any:
        return codec.encode(replace(true, signed=replace(true.signed, header=header)))

    full = Full(scene.chain)
    async with asking(scene.chain, full.methods(), full.methods(block=lie)) as asked:
        await asked.client._trust(asked.peer(0), true)
        await asked.client.cross_check()
        assert asked.left_out() == [1]
        assert asked.client.fork is None


async def test_two_signed_chains_are_a_fork_and_nothing_is_believed_any_more(scene: Scene, tmp_path: Path) -> None:
    told: list[bytes] = []

    async def report_fork(peer: str, params: Any) -> Any:
        told.append(params[0])
        return bytes(32)

    nodes = ({**methods, "report_fork": report_fork} for methods in scene.nodes(scene.chain, scene.forked))
    async with asking(scene.chain, *nodes) as asked:
        client = asked.client
        seen: list[Fork] = []
        client.report_fork = seen.append
        for height in (1, 2, 4):
            await client._trust(asked.peer(0), scene.block(scene.chain, height))
        with refused("light.fork", "height 4"):
            await client.cross_check()
        (fork,) = seen
        assert told == [codec.encode(fork)] * 2
        assert {fork.first, fork.second} == {scene.block(scene.chain, 4), scene.block(scene.forked, 4)}
        with refused("light.fork"):
            await client.cross_check()
        with refused("light.fork"):
            await client.record(scene.key, Account)
        await client.watch_witnesses()
    path = write_evidence(tmp_path, fork)
    assert codec.decode(path.read_bytes(), Fork) == fork


async def test_a_fork_below_the_height_looked_at_is_found_on_the_way(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers are fetched between, as where sets change; one of them contradicts what is known."""
    monkeypatch.setattr(headers, "Bisection", partial(Bisection, trust_level=(1, 1)))
    async with asking(scene.chain, *scene.nodes(scene.forked)) as asked:
        await asked.client._trust(asked.peer(0), scene.block(scene.chain, 3))
        asked.client.trusted = asked.client._genesis_trust
        with refused("light.fork", "height 3"):
            await asked.client._trust(asked.peer(0), scene.block(scene.forked, 4))


async def test_what_cannot_be_judged_any_more_is_the_fault_of_who_contradicts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(scene.chain, *scene.nodes(scene.forked)) as asked:
        client = anchored(asked, scene, 4)
        with genesis_expired(monkeypatch), pytest.raises(PeerFault, match=r"light\.fork"):
            await client._trust(asked.peer(0), scene.block(scene.forked, 4))


async def test_a_fork_of_what_was_kept_is_found_in_the_background(scene: Scene) -> None:
    async with asking(scene.chain, *scene.nodes(scene.forked)) as asked:
        client = anchored(asked, scene, 4)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.watch_witnesses)
                while client.fork is None:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        assert client.fork is not None
