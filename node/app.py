"""A node: all its services in one nursery, and what they say to each other.

    gossip --orders, bids--> book            light service --> book, mempool
    gossip --transactions--> mempool --> agreement --> chain --> (mempool, book, provider)
    sync --> agreement                       neighbours' books --rounds--> book

A service that fails brings the node down: half a node is worse than none.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.engine import Engine
from fondaco.consensus.ledger.application import Execution
from fondaco.node import snapshot_sync
from fondaco.node import sync as sync_module
from fondaco.node.agreement import PROTOCOL as AGREEMENT
from fondaco.node.agreement import Agreement
from fondaco.node.agreement.evidence_pool import EvidencePool, attack_of, judge_by
from fondaco.node.agreement.journal import Journal
from fondaco.node.agreement.sign_state import SignState
from fondaco.node.book import Book, Reconciler
from fondaco.node.book import reconcile as reconcile_module
from fondaco.node.chain import Chain, read_genesis
from fondaco.node.config import NodeConfig
from fondaco.node.files import DirectoryLock
from fondaco.node.genesis_file import state_path
from fondaco.node.gossip import Gossip, Topic
from fondaco.node.keys.keystore import Key, Keystore
from fondaco.node.light_service import LightService
from fondaco.node.market.service import Market
from fondaco.node.memory import keep_small, return_freed_memory
from fondaco.node.mempool import Mempool, Outcome
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.discovery import Discovery
from fondaco.node.network.host import Host, open_host
from fondaco.node.network.links import Links
from fondaco.node.network.peers import Address, PeerId
from fondaco.node.network.peerstore import PeerStore
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.node.pulse import Pulse
from fondaco.node.reach import Reach, reach_of
from fondaco.node.snapshots import SnapshotMaker, Snapshots, SnapshotService
from fondaco.node.sync import Sync, SyncService
from fondaco.node.verifying import share_interpreter
from fondaco.protocol import codec, light, limits, snapshots
from fondaco.protocol.book.bounds import OFFER_BYTES
from fondaco.protocol.book.shares import OWN
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.frames import hello
from fondaco.protocol.gossip.router import Verdict
from fondaco.protocol.light import Fork
from fondaco.protocol.market import Answer, SignedOrder
from fondaco.protocol.offers import GossipItem, SignedOffer
from fondaco.protocol.scalars import Hash, Height, OrderId, TxId
from fondaco.protocol.signing import verify

if TYPE_CHECKING:
    from fondaco.node.provider_host import Providing

log = logging.getLogger("fondaco.node")


@dataclass(slots=True)
class Node:
    """A running node's parts, for those that serve or watch it."""

    config: NodeConfig
    chain: Chain
    mempool: Mempool
    evidence: EvidencePool
    book: Book
    reconciler: Reconciler
    host: Host
    gossip: Gossip
    agreement: Agreement
    sync: Sync
    snapshots: Snapshots
    keys: dict[str, Key]
    discovery: Discovery
    reach: Reach
    """How others come to it, and it to them."""
    market: Market | None = None
    """Where the node keeps one."""
    provider: Providing | None = None
    """Where the node is a provider."""
    pulse: Pulse = field(default_factory=Pulse)
    ready: trio.Event = field(default_factory=trio.Event)
    """Set once the node does all it is there for: a provider, once it is registered and answers orders."""

    async def submit(self, raw: bytes) -> TxId:
        """Take a transaction in and pass it on. Raises `Refused` with the ledger's reason, or `PeerFault`."""
        identity = self.mempool.add(raw)
        await self._heard(Topic.TRANSACTIONS)
        self.gossip.publish(Topic.TRANSACTIONS, raw)
        return identity

    async def submit_order(self, signed: SignedOrder, source: str = OWN) -> OrderId:
        """Take an order in, from this peer, and pass it on. Raises `Refused` or `PeerFault`."""
        identity = self.book.add_order(signed, source)
        await self._heard(Topic.ORDERS)
        self.gossip.publish(Topic.ORDERS, codec.encode(signed))
        return identity

    async def _heard(self, topic: Topic) -> None:
        """Wait, though not for ever, until a neighbour listens: what is published before reaches nobody."""
        if self.config.peers:
            with trio.move_on_after(limits.REQUEST_TIMEOUT_MS / 2_000):
                await self.gossip.wait_for_subscribers(topic)

    async def report_fork(self, fork: Fork) -> Hash:
        """Take in what a light client was shown. Raises `Refused` if it proves nothing."""
        return self.evidence.report(
            attack_of(fork, self.chain.store.signed_header(fork.first.signed.header.height))
        )

    def publish_answer(self, signed: Answer) -> None:
        """Put our own bid or decline into the book and pass it on."""
        self.book.add_answer(signed)
        self.gossip.publish(Topic.BIDS, codec.encode(signed))

    def publish_offer(self, signed: SignedOffer) -> None:
        """Put our own offer into the book and pass it on."""
        self.book.add_offer(signed)
        self.gossip.publish(Topic.STATUS, codec.encode(signed))

    def status(self) -> dict[str, Any]:
        """What this node can say of itself, for the API and `fondaco node status`."""
        head = self.chain.head
        commits = sorted(self.agreement.finality.commit_ms)
        return {
            "name": self.config.name,
            "chain": self.chain.id,
            "height": head.height,
            "head": head.hash.hex(),
            "time_ms": head.time,
            "peer": self.host.peer_id,
            "peers": len(self.host.peers()),
            "mempool": len(self.mempool),
            "orders": len(self.book.open_orders()),
            "validator": self.config.validator,
            "provider": self.config.provider is not None,
            "finality_p50_ms": commits[len(commits) // 2] if commits else None,
            "market_height": None if self.market is None else self.market.height,
        }


@asynccontextmanager
async def open_node(config: NodeConfig) -> AsyncIterator[Node]:
    """Start a node and run it until the block ends. Raises `Refused` for a home that cannot be used."""
    share_interpreter()
    return_freed_memory()
    genesis = read_genesis(config.genesis)
    passphrase = config.passphrase()
    keystore = Keystore(config.keys)
    roles = ["node", *(["validator"] if config.validator else []), *(["provider"] if config.provider else [])]
    keys = {role: keystore.load(role, passphrase) for role in roles}
    async with AsyncExitStack() as stack:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(DirectoryLock(config.data))
        sign_state = _sign_state(config) if config.validator else None
        if config.join_by_snapshot:
            await snapshot_sync.join(config, genesis, keys["node"].seed)
        chain = Chain.open(genesis, config.data / "chain.db", state_path(config.genesis))
        stack.callback(chain.close)
        journal = Journal.open(config.data / "journal")
        stack.callback(journal.close)
        store = PeerStore.open(config.data / "peers.db")
        stack.callback(store.close)
        host = await stack.enter_async_context(open_host(keys["node"].seed, config.listen or None))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        discovery = _discovery(config, chain, host, store, keys["node"])
        node = _assemble(config, chain, journal, sign_state, host, discovery, keys)
        nursery.start_soon(keep_small)
        _serve(node, nursery)
        nursery.start_soon(node.reach.run)
        for address in config.peers:
            host.keep_connected(Address(address))
        if config.provider is not None:
            from fondaco.node.provider_host import open_provider

            node.provider = await stack.enter_async_context(open_provider(node))
        else:
            node.ready.set()
        if config.api:
            from fondaco.node.api import serve_api

            nursery.start_soon(node.pulse.run, node.gossip.counted)
            await nursery.start(serve_api, node)
        yield node


def _discovery(config: NodeConfig, chain: Chain, host: Host, store: PeerStore, key: Key) -> Discovery:
    return Discovery(
        host,
        AddressBook(host.peer_id, seed=secrets.randbits(64)),
        store,
        key.signer(),
        hello(chain.id),
        keep=[Address(one) for one in config.peers],
        announce=config.announce,
        least=config.min_peers,
        most=config.max_peers,
        seed=secrets.randbits(64),
    )


def _sign_state(config: NodeConfig) -> SignState:
    """A validator's sign state: made with its chain database, and never again."""
    path = config.data / "sign-state"
    fresh = not (config.data / "chain.db").exists()
    return SignState.create(path) if fresh and not path.exists() else SignState.open(path)


def _assemble(
    config: NodeConfig,
    chain: Chain,
    journal: Journal,
    sign_state: SignState | None,
    host: Host,
    discovery: Discovery,
    keys: dict[str, Key],
) -> Node:
    """Build the services and tie them together."""
    mempool, book, gossip = Mempool(chain), Book(chain), Gossip(host, chain.id)
    client = RpcClient(host, sync_module.PROTOCOL, hello=hello(chain.id))
    book_client = RpcClient(host, reconcile_module.PROTOCOL, hello=hello(chain.id))
    signer = keys["validator"].signer() if config.validator else None
    engine = Engine(
        chain.id,
        EngineConfig(),
        verify,
        None if signer is None else signer.public_key,
    )
    evidence = EvidencePool(config.data / "evidence", judge_by(chain))
    agreement = Agreement(chain, mempool, engine, journal, evidence, signer=signer, sign_state=sign_state)
    agreement.proposals.call = client.call

    async def call(peer: str, method: str, params: list[Any]) -> Any:
        return await client.call(PeerId(peer), method, params, timeout_ms=limits.REQUEST_TIMEOUT_MS)

    async def call_book(peer: str, method: str, params: list[Any]) -> Any:
        return await book_client.call(PeerId(peer), method, params)

    def blame(peer: str, fault: PeerFault) -> None:
        host.blame(PeerId(peer), fault)

    reconciler = Reconciler(book, lambda: list(gossip.peers()), call_book, blame)
    sync = Sync(chain, lambda: list(host.peers()), call, agreement.adopt, blame)
    snapshots = Snapshots.open(config.data / "snapshots")
    market = Market(chain, book, config.market_home, config.market_days) if config.market else None
    return Node(
        config,
        chain,
        mempool,
        evidence,
        book,
        reconciler,
        host,
        gossip,
        agreement,
        sync,
        snapshots,
        keys,
        discovery,
        reach_of(config, host, chain.id, discovery),
        market,
    )


def _serve(node: Node, nursery: trio.Nursery) -> None:
    """Start the services."""
    greeting = hello(node.chain.id)

    def on_up(peer: PeerId) -> None:
        node.sync.request()
        node.agreement.on_up(peer)

    links = Links(
        node.host,
        AGREEMENT,
        node.agreement.on_frame,
        hello=greeting,
        on_up=on_up,
    )
    node.agreement.attach(links, node.host.blame, node.sync.request)
    methods = SyncService(node.chain).methods() | node.agreement.proposals.methods()
    RpcServer(node.host, sync_module.PROTOCOL, methods, hello=greeting)
    RpcServer(node.host, snapshots.PROTOCOL, SnapshotService(node.snapshots).methods(), hello=greeting)
    RpcServer(node.host, reconcile_module.PROTOCOL, node.reconciler.methods(), hello=greeting)
    service = LightService(node.chain, node.book, node.submit, node.submit_order, node.report_fork)
    RpcServer(node.host, light.PROTOCOL, service.methods(), hello=greeting)

    async def on_transactions(items: list[bytes], source: PeerId) -> Verdict:
        return _verdict(await node.mempool.add_many(items, from_peer=True))

    async def on_orders(items: list[bytes], source: PeerId) -> Verdict:
        return _judge(_admit_order(node.book, raw, source) for raw in items)

    async def on_bids(items: list[bytes], source: PeerId) -> Verdict:
        return _judge(_admit_answer(node.book, raw, source) for raw in items)

    async def on_status(items: list[bytes], source: PeerId) -> Verdict:
        return _judge(_admit_offer(node.book, raw, source) for raw in items)

    node.gossip.subscribe(Topic.STATUS, on_status)
    node.gossip.subscribe(Topic.TRANSACTIONS, on_transactions)
    node.gossip.subscribe(Topic.ORDERS, on_orders)
    node.gossip.subscribe(Topic.BIDS, on_bids)
    node.gossip.record_of, node.gossip.on_suggest = node.discovery.record_of, node.discovery.suggested
    node.discovery.exchange.on_record = node.gossip.recorded
    nursery.start_soon(node.discovery.run)
    nursery.start_soon(node.gossip.run)
    nursery.start_soon(links.run)
    nursery.start_soon(node.agreement.run)
    nursery.start_soon(node.sync.run)
    nursery.start_soon(node.reconciler.run)
    if node.config.snapshot_interval:
        nursery.start_soon(SnapshotMaker(node.chain, node.snapshots, node.config.snapshot_interval).run)
    if node.market is not None:
        nursery.start_soon(node.market.run)
    if node.config.keep_blocks:
        node.chain.listeners.append(partial(_prune, node))


def _prune(node: Node, execution: Execution) -> None:
    """With each block forget some that are older than the node was told to keep.

    Those stay that come after a snapshot here, or are not in the market's log yet.
    """
    below = execution.block.header.height - node.config.keep_blocks + 1
    needed = [node.snapshots.oldest(), None if node.market is None else node.market.needs]
    below = min([below, *(height for height in needed if height is not None)])
    node.chain.store.prune(Height(below), limit=limits.PRUNED_PER_BLOCK)


def _judge(admitted: Iterable[bool]) -> Verdict:
    """A batch goes on if any item of it was admitted; an item that no honest peer makes condemns it."""
    try:
        return Verdict.ACCEPT if any(list(admitted)) else Verdict.IGNORE  # a list: every item is looked at
    except PeerFault as fault:
        log.info("gossip rejected: %s", fault)
        return Verdict.REJECT


def _verdict(outcomes: list[Outcome]) -> Verdict:
    """As `_judge`, of what became of each item."""
    faults = [outcome for outcome in outcomes if isinstance(outcome, PeerFault)]
    if faults:
        log.info("gossip rejected: %s", faults[0])
        return Verdict.REJECT
    return Verdict.ACCEPT if any(isinstance(one, bytes) for one in outcomes) else Verdict.IGNORE


def _admit_order(book: Book, raw: bytes, source: str) -> bool:
    """Whether the order is in the book now; one that came by a round before is passed on all the same."""
    return _admit(book, codec.decode(raw, SignedOrder, limit=limits.GOSSIP_ITEM_BYTES), source) is not None


def _admit_answer(book: Book, raw: bytes, source: str) -> bool:
    signed: Answer = codec.decode_union(raw, Answer, limit=limits.GOSSIP_ITEM_BYTES)
    return bool(_admit(book, signed, source))


def _admit_offer(book: Book, raw: bytes, source: str) -> bool:
    return bool(_admit(book, codec.decode(raw, SignedOffer, limit=OFFER_BYTES), source))


def _admit(book: Book, signed: GossipItem, source: str) -> bool | None:
    """Whether the item was new; None if it cannot be taken in, which is nobody's fault.

    Raises `PeerFault` for what is bad by itself.
    """
    try:
        message = book.check(signed)
    except Refused as refusal:
        raise PeerFault(refusal.code, refusal.message) from None
    try:
        return book.admit(message, signed, source)
    except Refused as refusal:
        log.debug("gossip ignored: %s", refusal)
        return None
