"""A light client that sends, watches and connects while nodes refuse, hang and go away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.support.chains import Town, decline_by, offer_by, order_by
from tests.support.honest import Scene, behind, refused
from tests.support.light import Full, Method, asking
from tests.support.network import address

from fondaco.consensus.ledger.genesis import genesis_from
from fondaco.consensus.ledger.params import Params
from fondaco.node import clock
from fondaco.node.network.host import open_host
from fondaco.node.tenant import gathering
from fondaco.node.tenant.light import LightClient
from fondaco.protocol import codec, limits
from fondaco.protocol.book import bounds
from fondaco.protocol.book.digests import item_id
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.light import LightBlock, ProvenOutcome, TransactionOutcome
from fondaco.protocol.market import SignedBid, SignedDecline
from fondaco.protocol.records import PARAMS, Account
from fondaco.protocol.scalars import INT_MAX, Millis, OrderId, TxId
from fondaco.protocol.transactions import SignedTransaction, transaction_id


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


# Transactions and orders


def transfer(scene: Scene) -> tuple[TxId, bytes]:
    raw = scene.town.sign(scene.alice.pays(scene.bob, 1), at=clock.now())
    return transaction_id(codec.decode(raw, SignedTransaction).transaction), raw


async def test_a_transaction_goes_to_every_node_and_its_outcome_comes_back(scene: Scene) -> None:
    other = Full(behind(scene, 4))
    async with asking(scene.chain, other.methods(), scene.honest) as asked:
        identity, raw = transfer(scene)
        await asked.client.submit_transaction(raw)
        assert identity in scene.full.mempool
        assert identity in other.mempool
        async with trio.open_nursery() as nursery:
            outcomes: list[TransactionOutcome] = []

            async def wait() -> None:
                outcomes.append(await asked.client.outcome(identity))

            nursery.start_soon(wait)
            await trio.sleep(0.05)
            scene.town.grow(scene.chain, raw, at=clock.now())
        assert (outcomes[0].height, outcomes[0].code) == (5, "")
    other.chain.close()


async def test_one_node_that_takes_a_transaction_is_enough_and_a_refusal_by_all_is_told(scene: Scene) -> None:
    async def refuse(peer: str, params: Any) -> Any:
        raise Refused("tx.nonsense", "never")

    _, raw = transfer(scene)
    refusing = scene.full.methods(submit_transaction=refuse)
    async with asking(scene.chain, refusing, scene.honest) as asked:
        await asked.client.submit_transaction(raw)
    async with asking(scene.chain, refusing, refusing) as asked:
        with refused("tx.nonsense"):
            await asked.client.submit_transaction(raw)


async def test_a_refusal_is_believed_of_two_nodes_and_not_of_one_while_others_may_have_taken_it(
    scene: Scene,
) -> None:
    async def refuse(peer: str, params: Any) -> Any:
        raise Refused("tx.nonsense", "never")

    async def drop(peer: str, params: Any) -> Any:
        raise Unreachable("node.stopping", "it restarts")

    _, raw = transfer(scene)
    refusing, dropping = (scene.full.methods(submit_transaction=way) for way in (refuse, drop))
    async with asking(scene.chain, refusing, dropping, dropping) as asked:
        with refused("light.no_answer"):
            await asked.client.submit_transaction(raw)
    async with asking(scene.chain, refusing, dropping, refusing) as asked:
        with refused("tx.nonsense"):
            await asked.client.submit_transaction(raw)


def dropped(told: ProvenOutcome, other: ProvenOutcome) -> ProvenOutcome:
    """Of another transaction, that was applied."""
    return other


def renamed(told: ProvenOutcome, other: ProvenOutcome) -> ProvenOutcome:
    """The event of another transaction, under this one's id."""
    event = codec.decode(told.event, TransactionApplied)
    return replace(other, event=codec.encode(replace(codec.decode(other.event, TransactionApplied), id=event.id)))


def refused_after_all(told: ProvenOutcome, other: ProvenOutcome) -> ProvenOutcome:
    event = codec.decode(told.event, TransactionApplied)
    return replace(told, event=codec.encode(replace(event, code="funds.credits")))


def applied_after_all(told: ProvenOutcome, other: ProvenOutcome) -> ProvenOutcome:
    event = codec.decode(told.event, TransactionApplied)
    return replace(told, event=codec.encode(replace(event, code="")))


def elsewhere(told: ProvenOutcome, other: ProvenOutcome) -> ProvenOutcome:
    return replace(told, block=other.block)


@pytest.mark.parametrize("lie", [dropped, renamed, refused_after_all, applied_after_all, elsewhere])
async def test_an_outcome_that_its_block_does_not_hold_is_a_lie(scene: Scene, lie: Any) -> None:
    """One transaction takes effect and another one is refused; a node swaps what became of them, and worse."""
    good = scene.town.sign(scene.alice.pays(scene.bob, 1), at=clock.now())
    bad = scene.town.sign(scene.bob.pays(scene.alice, 10**12), at=clock.now())
    names = [transaction_id(codec.decode(raw, SignedTransaction).transaction) for raw in (good, bad)]
    for raw in (good, bad):
        scene.town.grow(scene.chain, raw, at=max(clock.now(), scene.chain.head.time + 1))
    service = scene.full.service
    told = {name: codec.decode(await service.transaction("peer", [name]), ProvenOutcome) for name in names}
    mine, other = (names[1], names[0]) if lie is applied_after_all else (names[0], names[1])

    async def transaction(peer: str, params: Any) -> Any:
        return codec.encode(lie(told[mine], told[other]))

    liar = scene.full.methods(transaction=transaction)
    async with asking(scene.chain, liar, scene.full.methods()) as asked:
        asked.client.peers = [asked.peer(0)]
        with refused("light.all_lied", "light.outcome"), trio.fail_after(5):
            await asked.client.outcome(mine)
        asked.client.peers = [asked.peer(0), asked.peer(1)]
        with trio.fail_after(5):
            outcome = await asked.client.outcome(mine)
        assert outcome.code == ("" if mine == names[0] else "funds.credits")


@pytest.mark.parametrize(
    "error", [Refused("funds.credits", "so it says"), Unreachable("node.stopping", "it restarts")]
)
async def test_a_node_that_does_not_tell_of_a_transaction_is_asked_again(
    scene: Scene, error: FondacoError
) -> None:
    """That it refuses to says nothing of what became of it, no more than that it went away."""
    tries = 0

    async def transaction(peer: str, params: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise error
        return await scene.full.service.transaction(peer, params)

    async with asking(scene.chain, scene.full.methods(transaction=transaction)) as asked:
        identity, raw = transfer(scene)
        scene.town.grow(scene.chain, raw, at=clock.now())
        with trio.fail_after(5):
            outcome = await asked.client.outcome(identity)
        assert (outcome.height, outcome.code) == (5, "")
    assert tries == 3


async def test_an_outcome_is_not_waited_for_longer_than_a_transaction_lives(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TX_LIFE_MS", 200)
    async with asking(scene.chain, scene.honest) as asked:
        with refused("tx.unknown"):
            await asked.client.outcome(TxId(bytes(32)))


async def test_the_connection_to_a_node_that_restarts_is_made_again(scene: Scene) -> None:
    async with asking(scene.chain, scene.honest) as asked:
        own, host = asked.client.host, asked.hosts[0]
        assert await asked.client.record(scene.key, Account) is not None
        await own.drop(host.peer_id, "as if it restarted")
        with trio.fail_after(10):
            found = await asked.client.wait_record(scene.key, Account, lambda one: one is not None)
        assert found is not None


def listing(*keys: bytes) -> Method:
    async def providers(peer: str, params: Any) -> Any:
        return list(keys)

    return providers


async def test_providers_are_the_union_of_what_nodes_say(scene: Scene) -> None:
    nodes = [scene.full.methods(providers=listing(*keys)) for keys in ((), (b"short",))]
    async with asking(scene.chain, *nodes, scene.honest) as asked:
        assert await asked.client.providers() == [scene.paul.key]
        assert asked.left_out() == [1]


async def test_who_alone_names_a_provider_has_to_prove_it(scene: Scene) -> None:
    made_up = [bytes([number]) * 32 for number in range(1, 100)]

    async def hang(peer: str, params: Any) -> Any:
        await trio.sleep_forever()

    liar = scene.full.methods(providers=listing(scene.paul.key, *made_up))
    async with asking(scene.chain, liar, scene.honest, scene.honest) as asked:
        assert await asked.client.providers() == [scene.paul.key]
        assert asked.left_out() == [0]
    mute = {**liar, "record": hang}
    async with asking(scene.chain, mute, scene.honest) as asked:
        assert await asked.client.providers() == [scene.paul.key], "what is not proven is not waited for"
        assert asked.left_out() == []
    async with asking(scene.chain, liar) as asked:
        assert len(await asked.client.providers()) == 100, "there is nobody to compare with"


async def test_who_lists_more_than_nodes_list_is_left_out(scene: Scene) -> None:
    keys = [number.to_bytes(32, "big") for number in range(limits.PROVIDERS_LISTED + 1)]
    async with asking(scene.chain, scene.full.methods(providers=listing(*keys)), scene.honest) as asked:
        assert await asked.client.providers() == [scene.paul.key]
        assert asked.left_out() == [0]


async def test_answers_come_from_every_node_and_end_when_the_order_leaves_all_books(scene: Scene) -> None:
    other = Full(behind(scene, 4))
    identity, signed = order_by(scene.alice)
    async with asking(scene.chain, other.methods(), scene.honest) as asked:
        await asked.client.submit_order(signed)
        async with asked.client.answers(identity) as answers:
            bid, decline = scene.paul.bid(signed, 900), decline_by(scene.paul, identity)
            scene.full.book.add_answer(bid)
            other.book.add_answer(decline)
            with trio.fail_after(5):
                got = [await answers.receive() for _ in range(2)]
                assert {type(one) for one in got} == {SignedBid, SignedDecline}
                scene.town.grow(scene.chain, scene.alice.opens(signed, bid, deposit=10_000))
                scene.town.copy(scene.chain, other.chain)
                with pytest.raises(trio.EndOfChannel):
                    await answers.receive()
    other.chain.close()


async def test_watching_an_order_that_no_node_knows_ends_at_once(scene: Scene) -> None:
    async with asking(scene.chain, scene.honest) as asked:
        async with asked.client.answers(OrderId(bytes(32))) as answers:
            with trio.fail_after(5):
                assert [one async for one in answers] == []
        assert asked.left_out() == []


async def test_offers_are_the_newest_that_any_node_has_page_by_page(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fondaco.node.light_service.OFFERS_PAGE_BYTES", 1)
    scene.town.grow(scene.chain, scene.bob.registers())
    other, now = Full(behind(scene, 4)), scene.chain.head.time
    stale, fresh = offer_by(scene.paul, serial=now - bounds.OFFER_EVERY_MS), offer_by(scene.paul, serial=now)
    over = offer_by(scene.bob, serial=now - 2_000, expires_at=Millis(now - 1_000))
    other.book.offers._offers = {
        one.offer.provider: (item_id(other.book.check(one)), one) for one in (stale, over)
    }
    assert scene.full.book.add_offer(fresh)
    async with asking(scene.chain, other.methods(), scene.honest) as asked:
        await asked.client.record(scene.key, Account)  # now it knows what time it is
        assert await asked.client.offers() == [fresh]
        assert scene.full.book.add_offer(theirs := offer_by(scene.bob, serial=now))
        assert {one.offer.provider for one in await asked.client.offers()} == {scene.paul.key, scene.bob.key}
        assert theirs in await asked.client.offers()
        assert asked.left_out() == []
    other.chain.close()


async def test_a_node_that_makes_up_offers_or_never_ends_is_left_out(scene: Scene) -> None:
    true = offer_by(scene.paul)
    forged = codec.encode(replace(true, offer=replace(true.offer, serial=true.offer.serial + 1)))

    def says(*raws: Any) -> Any:
        async def offers(peer: str, params: Any) -> Any:
            return list(raws)

        return scene.full.methods(offers=offers)

    async def nonsense(peer: str, params: Any) -> Any:
        return 7

    again = codec.encode(true)  # whatever was asked for: without end
    assert scene.full.book.add_offer(true)
    liars = [says(forged), says(again), says("text"), scene.full.methods(offers=nonsense)]
    for liar in liars:
        async with asking(scene.chain, liar, scene.honest) as asked:
            assert await asked.client.offers() == [true]
            assert asked.left_out() == [0]


# Connecting


async def test_nodes_that_do_not_answer_are_passed_over_and_none_at_all_is_told(scene: Scene) -> None:
    dead = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
    async with open_host(bytes(32), None) as own:
        with refused("light.no_nodes"):
            await LightClient.connect(scene.chain.genesis, own, [dead])
        with refused("light.no_nodes"):
            await LightClient.connect(scene.chain.genesis, own, [])
    async with asking(scene.chain, scene.honest) as asked, open_host(bytes(32), None) as own:
        client = await LightClient.connect(scene.chain.genesis, own, [dead, address(asked.hosts[0])])
        assert client.peers == [asked.peer(0)]


async def test_no_more_nodes_are_dialled_than_are_asked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "NODES", 1)
    async with asking(scene.chain, scene.honest, scene.honest) as asked:
        assert len(asked.client.peers) <= 2


# What nodes serve


async def test_a_node_serves_its_genesis_and_blocks_and_refuses_wrong_parameters(scene: Scene) -> None:
    async with asking(scene.chain, scene.honest) as asked:
        peer, call = asked.peer(0), asked.client._call
        document = json.loads(await call(peer, "genesis", []))
        assert genesis_from(document) == scene.chain.genesis
        head = codec.decode(await call(peer, "head", []), LightBlock)
        assert head.signed.header.hash() == scene.chain.head.hash
        second = codec.decode(await call(peer, "block", [2]), LightBlock)
        assert second.signed.header.height == 2
        for height in (0, 5, -1, INT_MAX):
            with refused("block.unknown"):
                await call(peer, "block", [height])
        wrong: list[tuple[str, Any]] = [
            ("genesis", [1]),
            ("block", []),
            ("block", ["1"]),
            ("block", [True]),
            ("record", [1]),
            ("submit_transaction", None),
        ]
        for method, params in wrong:
            with refused("request.params"):
                await call(peer, method, params)


async def test_nodes_wait_for_their_first_block_before_they_answer(tmp_path: Path) -> None:
    town = Town("alice")
    chain = town.open(tmp_path / "chain.db")
    async with asking(chain, Full(chain).methods()) as asked, trio.open_nursery() as nursery:
        found: list[Params | None] = []

        async def ask() -> None:
            found.append(await asked.client.record(PARAMS, Params))

        nursery.start_soon(ask)
        await trio.sleep(0.05)
        assert found == []
        town.grow(chain, at=clock.now())
        with trio.fail_after(5):
            while not found:
                await trio.sleep(0.01)
    chain.close()
