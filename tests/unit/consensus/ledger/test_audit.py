"""Attempts to stop the chain: any exception but a refusal, in the execution of a block, would stop every node."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.ledger import FREE, HOUR, START, UNIT, World, a_group, codes

from fondaco.consensus.ledger.accounts import check_supply
from fondaco.protocol import codec, limits
from fondaco.protocol.records import SUPPLY, DeploymentState, Lease, Supply
from fondaco.protocol.resources import Endpoint, EndpointKind
from fondaco.protocol.scalars import INT_MAX, DeploymentId, LeaseId, MicroCredits, MicroStake, Millis


def leased(world: World, price: int, deposit: int) -> tuple[DeploymentId, LeaseId]:
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    draft = alice.leases((paul, price), deposit=deposit)
    assert world.code(draft) == ""
    assert world.code(paul.activates(draft.lease, receipt_of=alice)) == ""
    return draft.deployment, draft.lease


def test_an_escrow_that_would_last_longer_than_time_has_no_due_moment() -> None:
    """It was a moment beyond 2^63, which no record and no index key can hold."""
    world = World("alice", "paul", credits=limits.SUPPLY // 2, **FREE)
    deployment, _ = leased(world, price=1, deposit=limits.SUPPLY // 2)
    books = Bookkeeper(world)
    books.count()
    assert world.deployment(deployment).due_at is None
    world.block(after_ms=limits.BLOCK_TIME_MS - START - 10 * HOUR)
    books.count()
    (alice,) = world.actors("alice")
    assert world.code(alice.closes(*world.deployment(deployment).leases)) == ""
    books.count()


def test_the_highest_price_and_the_largest_deposit_are_only_numbers() -> None:
    world = World("alice", "paul", credits=limits.SUPPLY // 2, **FREE)
    runway = -(-INT_MAX // 3_600)
    deployment, lease = leased(world, price=INT_MAX, deposit=runway)
    books = Bookkeeper(world)
    books.count()
    world.block(after_ms=10)
    books.count()
    world.block(after_ms=HOUR)
    books.count()
    assert world.lease(lease).paid == runway
    assert world.deployment(deployment).state == DeploymentState.CLOSED


def test_twenty_leases_at_the_highest_price_run_dry_together() -> None:
    names = [f"provider{place}" for place in range(limits.GROUPS)]
    world = World("alice", *names, credits=limits.SUPPLY // 25, **FREE)
    alice, *providers = world.actors("alice", *names)
    price = limits.SUPPLY // 25 * 3_600 // limits.GROUPS
    world.block(*(one.registers() for one in providers))
    draft = alice.leases(*((one, price) for one in providers), deposit=limits.SUPPLY // 25)
    assert world.code(draft) == ""
    pairs = zip(draft.leases, providers, strict=True)
    world.block(*(one.activates(lease, receipt_of=alice) for lease, one in pairs))
    books = Bookkeeper(world)
    for after_ms in (1, 998, 1, 1, HOUR):
        world.block(after_ms=after_ms)
        books.count()
    assert world.deployment(draft.deployment).state == DeploymentState.CLOSED


def test_amounts_at_the_edge_of_the_codec_are_refused_everywhere() -> None:
    world = World("alice", "paul", **FREE | {"faucet_credits": 5})
    alice, paul = world.actors("alice", "paul")
    deployment, lease = leased(world, price=1, deposit=100)
    drafts = [
        alice.pays(paul, INT_MAX),
        alice.asks_faucet(INT_MAX, INT_MAX),
        alice.registers(bond=INT_MAX),
        alice.deposits(deployment, INT_MAX),
        alice.closes(lease, reason=INT_MAX),
        alice.leases((paul, INT_MAX), deposit=INT_MAX),
    ]
    assert all(codes(world.block(*drafts).events))
    assert world.propose(alice.does(*alice.pays(paul, 1).messages, tip=INT_MAX)).transactions == ()
    Bookkeeper(world).count()


def test_money_that_came_from_nowhere_stops_the_ledger() -> None:
    world = World("alice", **FREE)
    for credits, stake in ((1, 0), (0, 1)):
        state = world.ledger.state()
        supply = state.require(SUPPLY, Supply)
        wrong = Supply(credits=MicroCredits(supply.credits + credits), stake=MicroStake(supply.stake + stake))
        state.put(SUPPLY, wrong)
        with pytest.raises(AssertionError, match="were made"):
            check_supply(state)


def test_a_lease_with_many_parts_is_not_read_again_by_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty-six bytes of message made every node decode, and encode, as much as an order can hold."""
    world = World("alice", "paul", **FREE)
    world.judged = False
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    order = alice.order(a_group())
    endpoint = Endpoint(kind=EndpointKind.RANDOM_PORT, sequence_number=0)
    heavy = replace(UNIT, resources=replace(UNIT.resources, endpoints=(endpoint,) * 9_000))
    draft = alice.opens(order, paul.bid(order, 1_000, units=(heavy,)), deposit=100_000)
    assert world.code(draft) == ""
    world.block(paul.activates(draft.lease, receipt_of=alice))
    read, written = list[type](), list[type]()
    decode, encode = codec.decode, codec.encode

    def counting_decode(data: bytes, kind: type, **options: int) -> object:
        read.append(kind)
        return decode(data, kind, **options)

    def counting_encode(message: object) -> bytes:
        written.append(type(message))
        return encode(message)

    monkeypatch.setattr(codec, "decode", counting_decode)
    monkeypatch.setattr(codec, "encode", counting_encode)
    execution = world.block(*(paul.withdraws(*[draft.lease] * 16) for _ in range(20)))
    assert codes(execution.events) == [""] * 20
    assert (read.count(Lease), written.count(Lease)) == (0, 1), "what the block before wrote is known still"


def test_orders_that_are_not_due_are_not_read_in_every_block() -> None:
    """The index of used orders is read up to block time, however long it is."""
    world = World("alice", "paul", **FREE)
    alice, paul = world.actors("alice", "paul")
    world.block(paul.registers())
    for life in (20_000, 30_000, 60_000):
        order = alice.order(a_group(), expires_at=Millis(world.now + life))
        world.block(alice.opens(order, paul.bid(order, 1), deposit=10))
    state = world.ledger.state()
    assert len(state.scan(b"used-order-expiry/", 9)) == 3
    assert len(state.scan_before(b"used-order-expiry/", world.now + 40_000, 9)) == 2
