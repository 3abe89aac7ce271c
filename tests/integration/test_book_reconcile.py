"""Books of real nodes over real streams: a bid that gossip does not bring comes with a round."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.support.chains import Town, decline_by, order_by
from tests.support.ledger import a_group
from tests.support.network import address, seed, until

from fondaco.node import clock, testnet
from fondaco.node.app import _admit_answer, _admit_order, _judge, open_node
from fondaco.node.book import Book, Reconciler
from fondaco.node.book.reconcile import PROTOCOL
from fondaco.node.chain import Chain
from fondaco.node.config import load
from fondaco.node.gossip import Gossip, Topic
from fondaco.node.light_service import LightService
from fondaco.node.measures import measures
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.peers import PeerId
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.protocol import codec, light
from fondaco.protocol.book import bounds
from fondaco.protocol.frames import hello
from fondaco.protocol.gossip.router import Verdict
from fondaco.protocol.market import Answer, Order, SignedBid, SignedOrder
from fondaco.protocol.messages import Faucet
from fondaco.protocol.records import Account, key_account
from fondaco.protocol.scalars import Hash, MicroCredits, MicroStake, Millis, OrderId, Salt
from fondaco.protocol.signing import Signer
from fondaco.protocol.transactions import sign_transaction


class Peer:
    """What of a node has to do with its book."""

    def __init__(self, host: Host, chain: Chain) -> None:
        greeting = hello(chain.id)
        self.host = host
        self.chain = chain
        self.book = Book(chain)
        self.gossip = Gossip(host, chain.id)
        self.deaf = False
        """Whether the bids that gossip brings are lost here."""
        self.lost = 0
        client = RpcClient(host, PROTOCOL, hello=greeting)

        async def call(peer: str, method: str, params: list[Any]) -> Any:
            return await client.call(PeerId(peer), method, params)

        self.reconciler = Reconciler(
            self.book,
            lambda: list(self.gossip.peers()),
            call,
            lambda peer, fault: host.blame(PeerId(peer), fault),
        )
        RpcServer(host, PROTOCOL, self.reconciler.methods(), hello=greeting)
        service = LightService(chain, self.book, self._nothing, self._submit_order, self._nothing)
        RpcServer(host, light.PROTOCOL, service.methods(), hello=greeting)
        self.gossip.subscribe(Topic.ORDERS, self._on_orders)
        self.gossip.subscribe(Topic.BIDS, self._on_bids)

    async def _nothing(self, _: object) -> Any:
        raise AssertionError("nobody asks for it here")

    async def _submit_order(self, signed: SignedOrder, peer: str) -> OrderId:
        identity = self.book.add_order(signed, peer)
        self.gossip.publish(Topic.ORDERS, codec.encode(signed))
        return identity

    def answers(self, signed: Answer) -> None:
        """Our provider says this."""
        self.book.add_answer(signed)
        self.gossip.publish(Topic.BIDS, codec.encode(signed))

    async def _on_orders(self, items: list[bytes], source: PeerId) -> Verdict:
        return _judge(_admit_order(self.book, raw, source) for raw in items)

    async def _on_bids(self, items: list[bytes], source: PeerId) -> Verdict:
        if self.deaf:
            self.lost += len(items)
            return Verdict.IGNORE
        return _judge(_admit_answer(self.book, raw, source) for raw in items)


class Network:
    """Nodes that are all connected, on copies of one chain."""

    def __init__(self, town: Town, peers: list[Peer], nursery: trio.Nursery) -> None:
        self.town = town
        self.peers = peers
        self.nursery = nursery
        self.alice, self.paul, self.petra = town.actors("alice", "paul", "petra")


@asynccontextmanager
async def network(path: Path, count: int) -> AsyncIterator[Network]:
    town = Town("alice", "paul", "petra")
    async with AsyncExitStack() as stack:
        peers: list[Peer] = []
        for number in range(count):
            chain = town.open(path / f"{number}.db")
            stack.callback(chain.close)
            if peers:
                town.copy(peers[0].chain, chain)
            else:
                paul, petra = town.actors("paul", "petra")
                town.grow(chain, paul.registers(), petra.registers())
            host = await stack.enter_async_context(open_host(seed(number + 1)))
            peers.append(Peer(host, chain))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        for number, peer in enumerate(peers):
            nursery.start_soon(peer.gossip.run)
            for other in peers[:number]:
                await peer.host.connect(address(other.host))
        for peer in peers:
            for topic in (Topic.ORDERS, Topic.BIDS):
                await peer.gossip.wait_for_subscribers(topic, count - 1)
        yield Network(town, peers, nursery)


async def hand_in(asked: RpcClient, peer: Peer, signed: SignedOrder) -> OrderId:
    return OrderId(await asked.call(peer.host.peer_id, "submit_order", [codec.encode(signed)]))


async def test_a_bid_that_gossip_does_not_bring_reaches_who_watches_within_two_rounds(tmp_path: Path) -> None:
    async with network(tmp_path, 3) as here, open_host(seed(9), None) as tenant:
        one, two, cut = here.peers
        cut.deaf = True
        _, signed = order_by(here.alice)
        await tenant.connect(address(cut.host))
        client = RpcClient(tenant, light.PROTOCOL, hello=hello(here.town.chain))
        identity = await hand_in(client, cut, signed)
        assert cut.book.holdings.orders.of_source(tenant.peer_id) == 1
        await until(lambda: one.book.order(identity) and two.book.order(identity))
        bid, decline = here.paul.bid(signed, 900), decline_by(here.petra, identity)
        one.answers(bid)
        two.answers(decline)
        await until(lambda: len(one.book.answers(identity)) == len(two.book.answers(identity)) == 2)
        await until(lambda: cut.lost >= 2)
        assert cut.book.answers(identity) == []

        async with client.stream(cut.host.peer_id, "watch_order", [identity]) as answers:
            for _ in range(2):
                await cut.reconciler.round(one.host.peer_id)
            with trio.fail_after(10):
                got = [codec.decode_union(await anext(answers), Answer) for _ in range(2)]
        assert sorted(type(answer).__name__ for answer in got) == ["SignedBid", "SignedDecline"]
        assert bid in got
        assert [peer.host.counters.peer_faults for peer in here.peers] == [0, 0, 0]
        assert [peer.host.counters.handler_errors for peer in here.peers] == [0, 0, 0]


async def test_rounds_go_on_by_themselves_and_bring_what_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "ROUND_MS", 40)
    async with network(tmp_path, 3) as here:
        one, two, cut = here.peers
        cut.deaf = True
        identity, signed = order_by(here.alice)
        await one._submit_order(signed, "")
        await until(lambda: all(peer.book.order(identity) for peer in here.peers))
        bids = [here.paul.bid(signed, 1_000), here.petra.bid(signed, 990)]
        one.answers(bids[0])
        two.answers(bids[1])
        await until(lambda: len(one.book.answers(identity)) == len(two.book.answers(identity)) == 2)
        assert cut.book.answers(identity) == []
        rounds: list[int] = []
        cut.book.listeners.append(lambda _: rounds.append(cut.reconciler.counters.rounds))
        here.nursery.start_soon(cut.reconciler.run)
        async with aclosing(cut.book.watch(identity)) as answers:
            with trio.fail_after(10):
                got = [await anext(answers) for _ in range(2)]
            assert sorted(map(_price, got)) == [990, 1_000]
            assert len(rounds) == 2
            assert max(rounds) <= 2, "the second at the latest brought them"
            better = here.paul.bid(signed, 800, serial=1)
            one.answers(better)
            with trio.fail_after(10):
                assert await anext(answers) == better, "and improvements"


def _price(answer: Answer) -> int:
    assert isinstance(answer, SignedBid)
    return answer.bid.price_per_hour


async def test_a_node_that_was_not_there_gets_the_whole_book(tmp_path: Path) -> None:
    async with network(tmp_path, 2) as here:
        old, new = here.peers
        for number in range(300):
            _, signed = order_by(here.alice, deposit=1_000)
            old.book.add_order(signed)
            if number % 3 == 0:
                old.book.add_answer(here.paul.bid(signed, 900))
        await new.reconciler.round(old.host.peer_id)
        assert new.book.holdings.index.root() == old.book.holdings.index.root()
        assert new.reconciler.counters.pulled == 400
        assert new.book.holdings.orders.of_source(old.host.peer_id) == 300


async def test_a_neighbour_that_does_not_speak_it_fails_a_round_and_is_not_blamed(tmp_path: Path) -> None:
    async with network(tmp_path, 1) as here, open_host(seed(9)) as mute:
        (one,) = here.peers
        await one.host.connect(address(mute))
        assert not await one.reconciler.round(mute.peer_id)
        assert one.reconciler.counters.rounds_failed == 1
        assert one.host.counters.peer_faults == 0


async def test_neighbours_that_only_gossip_do_not_cost_a_round(tmp_path: Path) -> None:
    """Whoever of them is drawn first: another libp2p is a neighbour in gossip, and has no book."""
    async with network(tmp_path, 2) as here, open_host(seed(8)) as mute, open_host(seed(9)) as silent:
        old, new = here.peers
        for host in (mute, silent):
            here.nursery.start_soon(Gossip(host, here.town.chain).run)
            await new.host.connect(address(host))
        await until(lambda: len(new.gossip.peers()) == 3)
        for number in range(10):
            identity, signed = order_by(here.alice, deposit=1_000)
            old.book.add_order(signed)
            await new.reconciler.round_with_any()
            assert new.book.order(identity), f"try {number}"


async def test_whole_nodes_hold_rounds_with_their_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "ROUND_MS", 40)
    plan = testnet.create(tmp_path, validators=2, providers=0)
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(open_node(load(tmp_path / "nodes" / member.name)))
            for member in plan.members
        ]
        signer = Signer(seed(9))
        asks = Faucet(credits=MicroCredits(1_000_000), stake=MicroStake(0))
        soon = Millis(clock.now() + 60_000)
        paid = sign_transaction(signer, one.chain.id, (asks,), expires_at=soon, salt=Salt(bytes(16)))
        await one.submit(codec.encode(paid))
        key = key_account(signer.public_key)
        await until(lambda: all(node.chain.ledger.state().get(key, Account) for node in (one, two)))
        order = Order(
            tenant=signer.public_key,
            groups=(a_group(price=1_000),),
            commitments=(Hash(bytes(32)),),
            reclamation_window_ms=Millis(0),
            deposit=MicroCredits(10_000),
            reply_peers=(),
            expires_at=Millis(clock.now() + 600_000),
            salt=Salt(bytes(16)),
        )
        signed = SignedOrder(order=order, signature=signer.sign(one.chain.id, order))
        identity = one.book.add_order(signed)  # and not a word of gossip
        await until(lambda: two.book.order(identity))
        assert two.book.order(identity) == signed
        await until(lambda: measures(two)["book"]["bytes_in"])
        assert measures(two)["book"]["orders"] == measures(two)["book"]["pulled"] == 1
        assert measures(one)["book"]["bytes_out"] > 0
