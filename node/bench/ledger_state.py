"""A chain with any number of records for benchmarks: half accounts, the rest deployments with all they have.

Everything follows from numbers, so that a process that fills a database and one that measures it need not talk. Of
accounts only the first `ABLE` have keys that can sign; where a record lies in the tree is as random for all.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from fondaco.consensus.ledger.application import Ledger, genesis_writes
from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import RECORD, MemoryStore, State
from fondaco.node.samples import plain_unit
from fondaco.node.storage import ChainStore
from fondaco.protocol import codec
from fondaco.protocol.limits import GIB
from fondaco.protocol.market import (
    Bid,
    Order,
    Receipt,
    SignedBid,
    SignedOrder,
    SignedReceipt,
    deployment_id,
    lease_id,
    order_id,
)
from fondaco.protocol.messages import Activate, Message, OpenLease, RegisterProvider
from fondaco.protocol.records import (
    SUPPLY,
    TOTALS,
    Account,
    Deployment,
    EscrowDeposit,
    Lease,
    Supply,
    Totals,
    key_account,
    key_deployment,
    key_due,
    key_lease,
)
from fondaco.protocol.resources import Group, Placement
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    Height,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    Power,
    PublicKey,
    Salt,
    SealingKey,
)
from fondaco.protocol.signing import Signer, sha256
from fondaco.protocol.transactions import sign_transaction

START = Millis(1_700_000_000_000)
MINUTE = 60_000
ABLE = 12_000
PROVIDERS = 64
MONEY = 10**11
PRICE = MicroCredits(3_600_000)
"""Ucredit an hour: one a millisecond, so that an escrow of so many ucredit lasts for so many milliseconds."""
BATCH = 5_000

VALIDATOR = Signer(sha256(b"bench validator"))
UNITS = (plain_unit(cpu_milli=1_000, memory_bytes=GIB),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many of what `records` are; some hundred more belong to the chain itself."""

    records: int

    @property
    def deployments(self) -> int:
        """Each with one lease and an entry in the due index."""
        return self.records // 6

    @property
    def accounts(self) -> int:
        return self.records - 3 * self.deployments

    @property
    def able(self) -> int:
        return min(self.accounts, ABLE)


@cache
def account(number: int) -> Signer:
    """One of the first `ABLE`."""
    return Signer(sha256(b"bench account %d" % number))


@cache
def provider(number: int) -> Signer:
    return Signer(sha256(b"bench provider %d" % number))


def account_key(number: int) -> PublicKey:
    return account(number).public_key if number < ABLE else PublicKey(sha256(b"bench account %d" % number))


def deployment_of(number: int) -> DeploymentId:
    return DeploymentId(sha256(b"bench deployment %d" % number))


@cache
def genesis() -> Genesis:
    keys = [provider(number).public_key for number in range(PROVIDERS)]
    return Genesis(
        name="bench",
        time=START,
        initial_height=Height(1),
        params=Params(),
        validators=(GenesisValidator(key=VALIDATOR.public_key, power=Power(10)),),
        accounts=tuple(
            GenesisAccount(owner=key, credits=MicroCredits(MONEY), stake=MicroStake(MONEY)) for key in keys
        ),
        auditors=(),
    )


@cache
def chain_id() -> ChainId:
    return genesis().chain


def registration() -> RegisterProvider:
    return RegisterProvider(
        attributes=(),
        peer="peer",
        addresses=("/ip4/127.0.0.1/tcp/1",),
        sealing_key=SealingKey(bytes(32)),
        bond=MicroStake(1_000_000),
    )


def opening(tenant: Signer, by: Signer, *, now: int, salt: bytes) -> OpenLease:
    """An order of one group and the bid on it, for a block at `now`."""
    chain = chain_id()
    placement = Placement(attributes=(), all_of=(), any_of=())
    order = Order(
        tenant=tenant.public_key,
        groups=(Group(name="group", units=UNITS, placement=placement, max_price_per_hour=PRICE),),
        commitments=(sha256(salt),),
        reclamation_window_ms=Millis(0),
        deposit=MicroCredits(0),
        reply_peers=(),
        expires_at=Millis(now + 10 * MINUTE),
        salt=Salt(salt),
    )
    bid = Bid(
        order=order_id(chain, order),
        group=GroupIndex(0),
        provider=by.public_key,
        price_per_hour=PRICE,
        units=UNITS,
        reclamation_window_ms=Millis(0),
        peer="peer",
        addresses=("/ip4/127.0.0.1/tcp/1",),
        serial=0,
        expires_at=Millis(now + MINUTE),
    )
    return OpenLease(
        order=SignedOrder(order=order, signature=tenant.sign(chain, order)),
        bids=(SignedBid(bid=bid, signature=by.sign(chain, bid)),),
        deposit=MicroCredits(10 * PRICE),
    )


def signed(sender: Signer, message: Message, *, now: int, salt: bytes) -> bytes:
    """A transaction's bytes, for a block at `now`."""
    expires_at = Millis(now + MINUTE)
    return codec.encode(sign_transaction(sender, chain_id(), (message,), expires_at=expires_at, salt=Salt(salt)))


def populate(path: Path, records: int) -> None:
    """Make the database of a chain before its first block, with `records` records.

    Records go in by their place in the tree, a batch a time, so that each batch meets few of the tree's nodes: in
    the order of their keys it would take five times as long.
    """
    size = Size(records=records)
    store = ChainStore.open(path)
    store.commit(genesis_writes(genesis()))
    made = list(_records(size))
    credits = sum(money for _, _, money in made)
    read = State(store)
    totals, supply = read.require(TOTALS, Totals), read.require(SUPPLY, Supply)
    in_escrow = sum(money for key, _, money in made if key.startswith(b"deployment/"))
    totals = replace(
        totals,
        account_credits=MicroCredits(totals.account_credits + credits - in_escrow),
        escrow_credits=MicroCredits(in_escrow),
    )
    supply = replace(supply, credits=MicroCredits(supply.credits + credits))
    rows = [(TOTALS, codec.encode(totals)), (SUPPLY, codec.encode(supply)), *((key, raw) for key, raw, _ in made)]
    del made
    rows.sort(key=lambda row: sha256(row[0]))
    for first in range(0, len(rows), BATCH):
        state = State(store)
        for key, raw in rows[first : first + BATCH]:
            state.overlay.put(RECORD + key, raw)
        state.seal()
        store.commit(state.writes)
    store.close()


def _records(size: Size) -> Iterator[tuple[bytes, bytes, int]]:
    """(key, bytes, ucredit in it)."""
    dice = random.Random(size.records)
    for number in range(size.accounts):
        credits = MONEY + dice.randrange(MONEY)
        record = Account(credits=MicroCredits(credits), stake=MicroStake(0))
        yield key_account(account_key(number)), codec.encode(record), credits
    deployment, lease = _template()
    for number in range(size.deployments):
        identity = deployment_of(number)
        leased = lease_id(identity, GroupIndex(0))
        tenant = account_key(dice.randrange(size.accounts))
        funds = MONEY + dice.randrange(MONEY)
        due_at = Millis(lease.accrued_to + funds)
        running = replace(
            deployment,
            id=identity,
            tenant=tenant,
            leases=(leased,),
            deposits=(EscrowDeposit(depositor=tenant, amount=MicroCredits(funds)),),
            due_at=due_at,
        )
        yield key_deployment(identity), codec.encode(running), funds
        by = provider(dice.randrange(PROVIDERS)).public_key
        copy = replace(lease, id=leased, deployment=identity, tenant=tenant, provider=by)
        yield key_lease(leased), codec.encode(copy), 0
        yield key_due(due_at, identity), codec.encode(identity), 0


def _template() -> tuple[Deployment, Lease]:
    """A running deployment and its lease, as the ledger itself makes them."""
    tenant, by, chain = provider(0), provider(1), chain_id()
    store = MemoryStore()
    store.apply(genesis_writes(genesis()))
    ledger = Ledger(store, chain)
    salts = (sha256(b"template %d" % number)[:16] for number in itertools.count())
    message = opening(tenant, by, now=START + 1, salt=next(salts))
    deployment = deployment_id(order_id(chain, message.order.order))
    lease = lease_id(deployment, GroupIndex(0))
    receipt = Receipt(lease=lease, version=1, commitment=message.order.order.commitments[0])
    handed = Activate(receipt=SignedReceipt(receipt=receipt, signature=tenant.sign(chain, receipt)))
    ledger_block = ledger.prepare_proposal(
        time=Millis(START + 1),
        proposer=VALIDATOR.public_key,
        previous_certificate=None,
        candidates=[
            signed(sender, one, now=START + 1, salt=next(salts))
            for sender, one in ((by, registration()), (tenant, message), (by, handed))
        ],
    )
    store.apply(ledger.finalize_block(ledger_block).writes)
    state = State(store)
    return (
        state.require(key_deployment(deployment), Deployment),
        state.require(key_lease(LeaseId(lease)), Lease),
    )
