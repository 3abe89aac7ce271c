"""A load in a process of its own: transfers that were signed before the clock starts, published in batches.

It is a neighbour that gossips, as a node behind which many tenants stand would be, and it asks for the outcome of
some of its transactions over the light protocol, as a tenant would: finality is what lies between publishing one
and hearing in which block it is.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field

import trio

from fondaco.consensus.ledger.genesis import GenesisAccount
from fondaco.consensus.ledger.params import CREDIT
from fondaco.node import clock
from fondaco.node.gossip import Gossip, Topic
from fondaco.node.keys.sealing import random_salt
from fondaco.node.network.host import open_host
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.rpc import RpcClient
from fondaco.protocol import codec, light
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.frames import hello
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import ChainId, MicroCredits, MicroStake, Millis
from fondaco.protocol.signing import Signer, sha256
from fondaco.protocol.transactions import sign_transaction, transaction_id

PAYERS = 200
LIFE_MS = 110_000
"""As long as transactions may live, less some slack for the clock of the chain."""
TICK_S = 0.02
"""Between two handfuls of transactions: what gossip makes one batch of."""
SAMPLES_PER_S = 40
"""Transactions whose outcome is asked for."""
ANSWER_MS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What to do: so many transactions a second, for so long."""

    chain: ChainId
    addresses: tuple[str, ...]
    rate: int
    seconds: float
    settle_s: float
    """At the beginning, in which no outcomes are asked for."""


@dataclass(slots=True, kw_only=True)
class Offered:
    """What came of it, by this process's clock."""

    began: Millis
    ended: Millis
    published: int = 0
    finality_ms: list[int] = field(default_factory=list)
    """Of those asked for, in the order in which they were answered."""
    unanswered: int = 0
    cpu_us_per_tx: float = 0.0
    """Of this process, while it published."""
    cpu_s: float = 0.0
    """Of this process in all."""


def payer(number: int) -> Signer:
    """Who pays the transfers with this number; the chain begins with money in its account."""
    return Signer(sha256(b"bench payer %d" % number))


def rich() -> tuple[GenesisAccount, ...]:
    """What the payers begin with."""
    credits = MicroCredits(10_000 * CREDIT)
    return tuple(
        GenesisAccount(owner=payer(number).public_key, credits=credits, stake=MicroStake(0))
        for number in range(PAYERS)
    )


def offer(what: Offer) -> Offered:
    """Sign, connect, publish, and wait for the answers. Raises `Unreachable`."""
    signers = [payer(number) for number in range(PAYERS)]
    began = time.process_time()
    items = [transfer(what.chain, signers, number) for number in range(int(what.rate * what.seconds))]
    offered = trio.run(_offer, what, items)
    offered.cpu_s = time.process_time() - began
    return offered


def transfer(chain: ChainId, signers: list[Signer], number: int) -> tuple[bytes, bytes]:
    """Bytes and id of the transaction with this number: from each payer in turn to another one."""
    signer, to = signers[number % PAYERS], signers[(number * 7 + 1) % PAYERS]
    signed = sign_transaction(
        signer,
        chain,
        (Transfer(to=to.public_key, amount=MicroCredits(1)),),
        expires_at=Millis(clock.now() + LIFE_MS),
        salt=random_salt(),
    )
    return codec.encode(signed), transaction_id(signed.transaction)


async def _offer(what: Offer, items: list[tuple[bytes, bytes]]) -> Offered:
    async with open_host(secrets.token_bytes(32), None) as host, trio.open_nursery() as services:
        gossip = Gossip(host, what.chain)
        services.start_soon(gossip.run)
        peers = [await host.connect(Address(address)) for address in what.addresses]
        await gossip.wait_for_subscribers(Topic.TRANSACTIONS, len(peers))
        client = RpcClient(host, light.PROTOCOL, hello=hello(what.chain))
        offered = Offered(began=clock.now(), ended=clock.now())
        async with trio.open_nursery() as asking:
            await _publish(what, items, gossip, _Asking(client, peers, offered), asking)
        services.cancel_scope.cancel()
    return offered


class _Asking:
    """Asks one node after the other for an outcome."""

    def __init__(self, client: RpcClient, peers: list[PeerId], offered: Offered) -> None:
        self._client = client
        self._peers = peers
        self.offered = offered

    async def ask(self, number: int, identity: bytes, published: Millis) -> None:
        peer = self._peers[number % len(self._peers)]
        try:
            await self._client.call(peer, "transaction", [identity], timeout_ms=ANSWER_MS)
        except (Unreachable, Refused):
            self.offered.unanswered += 1
            return
        self.offered.finality_ms.append(clock.now() - published)


async def _publish(
    what: Offer, items: list[tuple[bytes, bytes]], gossip: Gossip, asking: _Asking, nursery: trio.Nursery
) -> None:
    """Keep to the pace, whatever becomes of the transactions: who is asked for more than it can do shows it."""
    offered, every = asking.offered, max(1, what.rate // SAMPLES_PER_S)
    settled = int(what.rate * what.settle_s)
    offered.began, began, cpu = clock.now(), trio.current_time(), time.process_time()
    while offered.published < len(items):
        due = min(len(items), int((trio.current_time() - began) * what.rate) + 1)
        for number in range(offered.published, due):
            raw, identity = items[number]
            gossip.publish(Topic.TRANSACTIONS, raw)
            if number % every == 0 and number >= settled:
                nursery.start_soon(asking.ask, number // every, identity, clock.now())
        offered.published = due
        await trio.sleep(TICK_S)
    offered.ended = clock.now()
    offered.cpu_us_per_tx = round((time.process_time() - cpu) / len(items) * 1e6, 1)
