"""A network of gossip routers in one process: simulated time, latency, loss, churn and liars, from one seed."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fondaco.protocol.gossip.effects import message_id
from fondaco.protocol.gossip.router import (
    Deliver,
    Effect,
    MessageId,
    Peer,
    Punish,
    Router,
    RouterConfig,
    SendRpc,
    Verdict,
)
from fondaco.protocol.gossip.wire import Rpc
from fondaco.protocol.scalars import Millis

TOPIC = "orders"
HEARTBEAT_MS = 1_000

Liar = Callable[["Network", "Node"], None]
"""What a bad node does once a heartbeat, in place of one."""


@dataclass(slots=True)
class Node:
    name: Peer
    router: Router
    address: str
    came_at: int
    dialled: set[Peer] = field(default_factory=set)
    links: set[Peer] = field(default_factory=set)
    got: dict[MessageId, int] = field(default_factory=dict)
    """When each message was delivered, in milliseconds."""
    alive: bool = True
    liar: Liar | None = None
    punished: list[str] = field(default_factory=list)


class Network:
    """Routers and the wires between them. A frame takes `latency_ms`, and is lost with probability `loss`."""

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0.0,
        latency_ms: tuple[int, int] = (10, 100),
        config: RouterConfig | None = None,
        valid: Callable[[bytes], bool] = lambda data: not data.startswith(b"bad"),
    ) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.latency_ms = latency_ms
        self.config = config
        self.valid = valid
        self.now = 0
        self.nodes: dict[Peer, Node] = {}
        self.sent_at: dict[MessageId, int] = {}
        self.frames = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._counted = 0

    # Time

    def at(self, moment: int, action: Callable[[], None]) -> None:
        self._counted += 1
        heapq.heappush(self._events, (moment, self._counted, action))

    def run(self, until: int) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    # Nodes

    def live(self, *, honest: bool = True) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive and (node.liar is None) == honest]

    def join(self, name: str, dials: Iterable[Peer] = (), *, address: str = "", liar: Liar | None = None) -> Node:
        router = Router(self.config, now=Millis(self.now), seed=self.random.getrandbits(64))
        node = self.nodes[Peer(name)] = Node(Peer(name), router, address, self.now, liar=liar)
        self.perform(node, router.subscribe(TOPIC))
        for other in dials:
            self.connect(node, self.nodes[other])
        self.at(self.now + self.random.randrange(HEARTBEAT_MS), lambda: self._beat(node))
        return node

    def connect(self, node: Node, other: Node) -> None:
        """`node` dials `other`. The first words on a fresh stream are not lost: else it is the link that fails."""
        if other.name in node.links or other is node:
            return
        node.dialled.add(other.name)
        for one, two in ((node, other), (other, node)):
            one.links.add(two.name)
            self.perform(
                one, one.router.peer_added(two.name, address=two.address, outbound=one is node), certain=True
            )

    def leave(self, node: Node, *, noticed_ms: int) -> None:
        """It is gone at once; its neighbours find out so much later, and dial somebody else in its place."""
        node.alive = False
        self.at(self.now + noticed_ms, lambda: self._noticed(node))

    def _noticed(self, gone: Node) -> None:
        for other in sorted(gone.links):
            node = self.nodes[other]
            node.links.discard(gone.name)
            self.perform(node, node.router.peer_removed(gone.name))
            if node.alive and gone.name in node.dialled:
                self.connect(node, self.random.choice(self.live()))

    def _beat(self, node: Node) -> None:
        if not node.alive:
            return
        if node.liar is None:
            self.perform(node, node.router.heartbeat(Millis(self.now)))
        else:
            node.liar(self, node)
        self.at(self.now + HEARTBEAT_MS, lambda: self._beat(node))

    # Messages

    def publish(self, node: Node, data: bytes) -> None:
        identity = message_id(data)
        self.sent_at[identity] = node.got[identity] = self.now
        self.perform(node, node.router.published(TOPIC, data, now=Millis(self.now)))

    def perform(self, node: Node, effects: list[Effect], *, certain: bool = False) -> None:
        for effect in effects:
            match effect:
                case SendRpc():
                    for peer in effect.peers:
                        self.send(node, peer, effect.rpc, certain=certain)
                case Deliver():
                    verdict = Verdict.ACCEPT if self.valid(effect.data) else Verdict.REJECT
                    node.got.setdefault(effect.message_id, self.now)
                    self.perform(node, node.router.verdict(effect.message_id, verdict, now=Millis(self.now)))
                case Punish():
                    node.punished.append(effect.code)

    def send(self, node: Node, peer: Peer, rpc: Rpc, *, certain: bool = False) -> None:
        self.frames += 1
        if not certain and self.random.random() < self.loss:
            return
        self.at(self.now + self.random.randint(*self.latency_ms), lambda: self._arrive(node, peer, rpc))

    def _arrive(self, source: Node, peer: Peer, rpc: Rpc) -> None:
        target = self.nodes[peer]
        if not (target.alive and source.alive and source.name in target.links):
            return
        effects = target.router.received(source.name, rpc, now=Millis(self.now))
        if target.liar is None:
            self.perform(target, effects)

    # Results

    def reached(self, within_ms: int) -> tuple[int, int, list[int]]:
        """Of all pairs of a message and an honest node that lives from before its publication until now: how many
        got it in time, how many there are, and the times it took."""
        times: list[int] = []
        pairs = 0
        for node in self.live():
            for identity, sent in self.sent_at.items():
                if node.came_at > sent:
                    continue
                pairs += 1
                took = node.got.get(identity, self.now + within_ms) - sent
                times += [took] if took <= within_ms else []
        return len(times), pairs, sorted(times)

    def mesh_sizes(self) -> list[int]:
        return sorted(len(node.router.mesh.topics[TOPIC]) for node in self.live())

    def counters(self) -> dict[str, int]:
        """Of all honest nodes together."""
        total: dict[str, int] = defaultdict(int)
        for node in self.nodes.values():
            if node.liar is None:
                for name in node.router.counters.__slots__:
                    total[name] += getattr(node.router.counters, name)
        return dict(total)


def grow(network: Network, count: int, *, dials: int = 8, start: int = 0) -> list[Node]:
    """So many more nodes, each of which dials some that are there."""
    made = []
    for number in range(start, start + count):
        there = [node.name for node in network.live()]
        made.append(network.join(f"n{number:04}", network.random.sample(there, min(dials, len(there)))))
    return made
