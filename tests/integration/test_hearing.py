"""Which nodes withhold answers to an order, and which are only slow; which show an old chain for the present."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import decline_by, order_by
from tests.support.honest import Scene, behind, refused
from tests.support.ledger import RICH
from tests.support.light import Asked, Full, Method, asking
from tests.support.network import until

from fondaco.node import clock
from fondaco.node.network.peers import PeerId
from fondaco.node.tenant import bounds, heads
from fondaco.node.tenant.hearing import Hearing
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import Answer
from fondaco.protocol.records import Account
from fondaco.protocol.scalars import Millis, OrderId

GRACE_S = 0.6


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(bounds, "WITHHELD_GRACE_S", GRACE_S)
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


class Teller:
    """A node that passes on each answer after so long a time."""

    def __init__(self, *answers: tuple[float, Answer], refuses: str = "", ends: bool = False) -> None:
        self.answers = answers
        self.refuses = refuses
        self.ends = ends
        self._began = -1.0

    def methods(self, scene: Scene) -> dict[str, Method]:
        return scene.full.methods(watch_order=self.watch_order)

    async def watch_order(self, peer: str, params: Any) -> Any:
        if self._began < 0:
            self._began = trio.current_time()
        for after_s, answer in self.answers:
            await trio.sleep_until(max(trio.current_time(), self._began + after_s))
            yield codec.encode(answer)
        if self.refuses:
            raise Refused(self.refuses, "no")
        if not self.ends:
            await trio.sleep_forever()


class Heard:
    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.blamed: list[tuple[PeerId, int]] = []

    def standing(self, index: int) -> tuple[int, int, int]:
        """Told, missed, withheld."""
        one = self.asked.client.standings()[index]
        return one.told, one.missed, one.withheld


@asynccontextmanager
async def heard(scene: Scene, identity: OrderId, *tellers: Teller) -> AsyncIterator[Heard]:
    """Listen until two answers came, then let those be heard out who lag."""
    async with asking(scene.chain, *(one.methods(scene) for one in tellers)) as asked:
        asked.client.known = tuple(host.peer_id for host in asked.hosts)
        found = Heard(asked)
        hearing = Hearing(asked.client, identity, 1, lambda peer, count: found.blamed.append((peer, count)))
        with trio.fail_after(10):
            async with hearing.answers() as answers:
                for _ in range(2):
                    await answers.receive()
            await asked.client.wait_heard_out()
        yield found


def bid_and_decline(scene: Scene) -> tuple[OrderId, Answer, Answer]:
    identity, signed = order_by(scene.alice)
    scene.town.grow(scene.chain, scene.bob.registers(), at=clock.now())
    return identity, scene.paul.bid(signed, 900), decline_by(scene.bob, identity)


async def test_a_node_that_is_slow_is_not_blamed_and_one_that_withholds_is(scene: Scene) -> None:
    identity, bid, decline = bid_and_decline(scene)
    prompt, slow = Teller((0, bid), (0, decline)), Teller((0, decline), (GRACE_S / 2, bid))
    async with heard(scene, identity, prompt, slow, Teller((0, decline))) as found:
        assert [found.standing(index) for index in range(3)] == [(2, 0, 0), (2, 0, 0), (1, 1, 1)]
        assert found.blamed == [(found.asked.peer(2), 1)]
        assert found.asked.left_out() == [], "nothing of that is proven"


async def test_a_node_that_tells_nothing_withholds_all(scene: Scene) -> None:
    identity, bid, decline = bid_and_decline(scene)
    async with heard(scene, identity, Teller((0, bid), (0, decline)), Teller()) as found:
        assert found.standing(1) == (0, 2, 2)
        assert found.blamed == [(found.asked.peer(1), 2)]


@pytest.mark.parametrize("away", [Teller(refuses="order.unknown"), Teller(ends=True), Teller(refuses="node.busy")])
async def test_a_node_to_which_the_order_is_over_missed_answers_and_withheld_none(
    scene: Scene, away: Teller
) -> None:
    identity, bid, decline = bid_and_decline(scene)
    async with heard(scene, identity, Teller((0, bid), (0, decline)), away) as found:
        assert found.standing(1) == (0, 2, 0)
        assert found.blamed == []


async def test_a_better_bid_is_withheld_where_the_one_before_is_told(scene: Scene) -> None:
    identity, signed = order_by(scene.alice)
    bid, better = scene.paul.bid(signed, 900), scene.paul.bid(signed, 700, serial=1)
    async with heard(scene, identity, Teller((0, bid), (0, better)), Teller((0, bid))) as found:
        assert found.standing(1) == (1, 1, 1)


# Heads


async def test_what_one_node_shows_is_measured_by_the_newest_of_all(scene: Scene) -> None:
    """The one that is quickest is two blocks behind; once all were asked it is not believed any more."""
    hidden = behind(scene, 2)
    slow = scene.full.methods(
        head=after(0.05, scene.full.service.head), record=after(0.05, scene.full.service.record)
    )
    async with asking(scene.chain, Full(hidden).methods(), slow) as asked:
        client = asked.client
        client.known = tuple(host.peer_id for host in asked.hosts)
        await client.look_around()
        assert [(one.height, one.behind) for one in client.standings()] == [(2, 2), (4, 0)]
        found = await client.record(scene.key, Account)
        assert found is not None
        assert found.credits == RICH + 6
    hidden.close()


async def test_where_all_show_the_same_head_it_is_cross_checked(scene: Scene) -> None:
    async def fail(peer: str, params: Any) -> Any:
        raise Refused("block.unknown", "asked again")

    nodes = [scene.full.methods(block=fail)] * 2
    async with asking(scene.chain, *nodes) as asked:
        await asked.client.look_around()
        with trio.fail_after(1):
            await asked.client.cross_check()


async def test_a_head_that_grows_old_has_all_nodes_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "LOOK_PAUSE_S", 0.02)
    async with asking(scene.chain, scene.honest) as asked, trio.open_nursery() as nursery:
        client = asked.client
        client.genesis = replace(client.genesis, params=replace(client.genesis.params, heartbeat_ms=Millis(100)))
        nursery.start_soon(client.watch_heads)
        await until(lambda: client.trusted.height == 4)
        scene.town.grow(scene.chain, at=clock.now())
        await until(lambda: client.trusted.height == 5)
        client.peers = []
        await trio.sleep(0.2)
        client.fork = Refused("light.fork", "two chains")
        with trio.fail_after(5):
            await client.watch_heads()
        nursery.cancel_scope.cancel()


async def test_looking_around_says_when_all_lie(scene: Scene) -> None:
    async def head(peer: str, params: Any) -> Any:
        return b"no head"

    async with asking(scene.chain, scene.full.methods(head=head)) as asked:
        with refused("light.all_lied"):
            await asked.client.look_around()


def after(pause_s: float, method: Method) -> Method:
    async def late(peer: str, params: Any) -> Any:
        await trio.sleep(pause_s)
        return await method(peer, params)

    return late
