"""A world: nodes, the network between them, and one heap of events in one order that the seed decides.

No clock runs but the heap's, no thread, no trio: the same seed gives the same run on every machine. Safety is
checked after every event. In a storm anything that the faults allow goes; then the network heals (whoever is
Byzantine stays so), for all or for a core of the honest, and they must decide further heights within a bound.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import Received
from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.consensus.rebuilding import Announced, Answered, Ask
from fondaco.consensus.validators import ValidatorSet
from fondaco.consensus.watch import culprit
from fondaco.node.simulation.byzantine import KINDS
from fondaco.node.simulation.faults import CALM, LIARS, Counters, Faults
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.identities import CHEAP, Scheme
from fondaco.node.simulation.invariants import Invariants
from fondaco.node.simulation.ledger import EPOCH_MS, LedgerApplication, entries, genesis_of, store_of
from fondaco.node.simulation.links import Links
from fondaco.node.simulation.market import Market
from fondaco.node.simulation.mishaps import Mishaps
from fondaco.node.simulation.violation import Violation
from fondaco.protocol import codec
from fondaco.protocol.agreement import (
    CommitCertificate,
    CompactProposal,
    ConsensusMessage,
    SignedProposal,
    WireMessage,
)
from fondaco.protocol.errors import FondacoError, Malformed
from fondaco.protocol.scalars import Millis, Power, PublicKey

LIVENESS_MS = 180_000
"""After healing, rounds may have grown long: a dozen of them fit in this."""
LIVENESS_HEIGHTS = 3
FETCH_BLOCKS = 5
FETCH_MS = 500
"""So long a node waits for an answer."""
QUESTION = b"?"
DECODED = 2_000
STORM_STEP_MS = 1_000
OURS = (
    AssertionError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    FondacoError,
)
"""Whatever of these reaches the top of a run is a bug: no input may raise it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to."""

    seed: int
    nodes: int
    simulated_ms: int
    events: int
    heights: int
    faults: dict[str, int] = field(default_factory=dict)


class World:
    """`World(seed=1, faults=faults).run()`; or `advance` and look around.

    `powers` gives the validators' voting powers; Byzantine ones come last. `spectators` are full nodes
    without a vote. `scheme` is how everybody signs. The first block is at `initial_height`. Where `compact`,
    proposals name their transactions and peers ask for those that they lack.
    """

    def __init__(
        self,
        *,
        seed: int,
        powers: tuple[int, ...] = (1, 1, 1, 1),
        faults: Faults = CALM,
        config: EngineConfig | None = None,
        spectators: int = 0,
        transaction_every_ms: int = 1_000,
        scheme: Scheme = CHEAP,
        initial_height: int = 1,
        compact: bool = False,
    ) -> None:
        self.seed = seed
        self.powers = powers
        self.scheme = scheme
        self.initial_height = initial_height
        self.compact = compact
        self.config = EngineConfig() if config is None else config
        self.random = Random(seed)
        self.faults = faults
        self.counters = Counters()
        self.events = 0
        self._now = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.links = Links(self.random, faults, self.counters)
        self._mishaps = Mishaps(self)
        self._decoded: dict[bytes, WireMessage | None] = {}
        self.market = Market(seed, scheme)
        keys = [scheme.key(f"validator {index}") for index in range(len(powers) + spectators)]
        self._genesis = genesis_of(
            list(zip(keys, powers, strict=False)),
            self.market.balances,
            initial_height=initial_height,
            issuer=self.market.issuer,
        )
        self.chain = self._genesis.chain
        # What a transaction's bytes mean does not depend on who reads them: all nodes open each once together.
        self._envelopes = Envelopes(self.chain, scheme.verify)
        validators = ValidatorSet.of((key, Power(power)) for key, power in zip(keys, powers, strict=False))
        self.invariants = Invariants(self.chain, validators, scheme, entries(self.new_store()))
        self.nodes = [self._make(index, key, len(powers)) for index, key in enumerate(keys)]
        self.invariants.liars = frozenset(node.key for node in self.nodes if not node.honest)
        self._by_key = {node.key: node for node in self.nodes}
        for node in self.nodes:
            self.at(self.random.randint(0, 50), node.boot)
        self._every(transaction_every_ms, self._submit)
        self._mishaps.begin()

    def run(self, *, safety_ms: int = 60_000) -> Report:
        """Both phases.  Raises `Violation` with the seed in it."""

        def story() -> None:
            self.advance(safety_ms)
            self.heal()
            self.must_go_on(self.honest())
            self.recount()

        self.tell(story)
        return self.report()

    def tell(self, story: Callable[[], None]) -> None:
        """Run a story; what goes wrong in it is a `Violation` that says when and where."""
        try:
            story()
        except OURS as error:
            what = str(error) if isinstance(error, Violation) else repr(error)
            raise Violation(f"seed {self.seed}, {self._now} ms: {what}") from error

    def storm(self, *, heights: int, most_ms: int) -> None:
        """Anything goes, until as many heights are decided in all or the time is over."""
        if self.links.calm:
            self.links.calm = False
            self._mishaps.begin()
        end = self._now + most_ms
        while self.invariants.heights < heights and self._now < end:
            self.advance(min(STORM_STEP_MS, end - self._now))

    def must_go_on(
        self, nodes: Sequence[SimulatedNode], *, heights: int = LIVENESS_HEIGHTS, within_ms: int = LIVENESS_MS
    ) -> None:
        """Let time pass until all these nodes have decided further heights, or raise `Violation`."""
        target = max(node.height for node in nodes) + heights
        deadline = self._now + within_ms
        while not all(node.height >= target for node in nodes):
            if self._now > deadline:
                reached = [node.height for node in self.nodes]
                raise Violation(f"no progress to height {target} after healing: heights {reached}")
            self.advance(1_000)

    def recount(self) -> None:
        """Count everything again: the chain replayed from genesis, and the store that comes of it."""
        for node in self.honest():
            for evidence in node.evidence:
                if self._by_key[culprit(evidence)].honest:
                    raise Violation(f"an honest node was accused: {evidence}")
        longest = max(self.honest(), key=lambda node: node.height)
        replayed = self.application(self.new_store())
        for block, _ in longest.disk.blocks:
            replayed.apply(block)
        head, store = replayed.head, entries(replayed.store)
        for node in self.honest():
            if node.height == head.height and entries(node.disk.store) != store:
                raise Violation(f"height {head.height}: replayed from genesis, the chain gives another state")
        state_root = longest.disk.blocks[-1][0].header.state_root
        self.invariants.books.recount(store, root=state_root, now=head.time)

    def report(self) -> Report:
        return Report(
            seed=self.seed,
            nodes=len(self.nodes),
            simulated_ms=self._now,
            events=self.events,
            heights=self.invariants.heights,
            faults=dict(sorted(self.counters.struck.items())),
        )

    def advance(self, duration_ms: int) -> None:
        """Let that much time pass."""
        end = self._now + duration_ms
        while self._heap and self._heap[0][0] <= end:
            self._now, _, happen = heapq.heappop(self._heap)
            self.events += 1
            happen()
        self._now = end

    def heal(self, core: Sequence[SimulatedNode] | None = None) -> None:
        """The network is well from now on, and everybody is up; or `core` is, and nobody hears of the others."""
        links = self.links
        links.calm = True
        self._mishaps.end()
        links.heal()
        for node in self.nodes if core is None else core:
            node.paused_until = node.step_ms = 0
            if not node.alive and node.life:
                node.boot()
        if core is not None:
            links.isolated = {node.key for node in self.nodes if node not in core}

    def honest(self) -> list[SimulatedNode]:
        return [node for node in self.nodes if node.honest]

    def cut(self, one: SimulatedNode, other: SimulatedNode, *, both_ways: bool = True) -> None:
        """Nothing that `one` sends reaches `other` from now on."""
        self.links.cut.add((one.key, other.key))
        if both_ways:
            self.links.cut.add((other.key, one.key))

    def kill(self, node: SimulatedNode) -> None:
        """Kill -9; it stays down until `boot`."""
        if node.alive:
            unflushed = len(node.disk.journal) - node.disk.flushed
            keep = self.random.randint(0, unflushed)
            if keep < unflushed:
                self.counters.count("torn journal tails")
            node.kill(keep=keep)

    # What nodes ask of their surroundings

    def now(self) -> int:
        return self._now

    def at(self, delay_ms: int, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self._now + delay_ms, self._order, happen))

    def new_store(self) -> MemoryStore:
        return store_of(self._genesis)

    def application(self, store: MemoryStore) -> LedgerApplication:
        return LedgerApplication(self._genesis, store, self.scheme.verify, self._envelopes)

    def count(self, fault: str) -> None:
        self.counters.count(fault)

    def post(self, sender: SimulatedNode, receiver: PublicKey | None, message: ConsensusMessage) -> None:
        said: WireMessage = message
        if self.compact and isinstance(message, SignedProposal):
            said = sender.rebuilder.shorten(message)
        self.post_bytes(sender, receiver, codec.encode(said))

    def post_bytes(self, sender: SimulatedNode, receiver: PublicKey | None, data: bytes) -> None:
        for node in self.nodes if receiver is None else [self._by_key[receiver]]:
            if node is not sender:
                self._transmit(sender, node, data)

    def after(self, node: SimulatedNode, delay_ms: int, happen: Callable[[], None]) -> None:
        life = node.life

        def in_this_life() -> None:
            if not node.alive or node.life != life:
                return
            if node.paused_until > self._now:
                self.at(node.paused_until - self._now, in_this_life)
            else:
                happen()

        self.at(delay_ms, in_this_life)

    def work_ms(self) -> int:
        return self.random.randint(0, 5)

    def strikes(self, node: SimulatedNode) -> bool:
        chance = self.faults.kill_in_effects
        return not self.links.calm and chance > 0 and self.random.random() < chance

    def die(self, node: SimulatedNode, *, before: str) -> None:
        self.counters.count(f"kills before {before}")
        self._mishaps.down(node)

    def fetch(self, node: SimulatedNode) -> None:
        life = node.life

        def happen() -> None:
            if not node.alive or node.life != life:
                return
            sources = [peer for peer in self.nodes if peer.height > node.height and self._linked(peer, node)]
            if not sources:
                return
            source = self.random.choice(sources)
            have = len(node.disk.blocks)
            for block, certificate in source.disk.blocks[have : have + FETCH_BLOCKS]:
                node.accept(block, certificate)
            node.start_height()

        self.at(self.random.randint(5, 50), happen)

    def ask(self, node: SimulatedNode, ask: Ask) -> None:
        peer = self._by_key[ask.peer]

        def answer() -> None:
            given = Answered(ask, peer.rebuilder.give(ask.names))
            self._carry(peer, node, lambda: node.hear(given))

        self.count("transactions asked for")
        self._carry(node, peer, answer)
        self.after(node, FETCH_MS, lambda: node.hear(Answered(ask, ())))

    # Inside

    def _carry(self, sender: SimulatedNode, receiver: SimulatedNode, happen: Callable[[], None]) -> None:
        """A question or an answer on its way; one that is garbled is none."""
        for delay_ms, arriving in self.links.arrivals((sender.key, receiver.key), QUESTION, now=self._now):
            if arriving == QUESTION:
                self.after(receiver, delay_ms, happen)

    def _make(self, index: int, key: PublicKey, validators: int) -> SimulatedNode:
        faults = self.faults
        kinds: list[type[SimulatedNode]] = [KINDS[name] for name in LIARS for _ in range(getattr(faults, name))]
        from_the_end = validators - 1 - index
        kind = kinds[from_the_end] if 0 <= from_the_end < len(kinds) else SimulatedNode
        skew = self.random.randint(-faults.clock_skew_ms, faults.clock_skew_ms)
        return kind(self, key, validates=index < validators, skew_ms=skew)

    def _every(self, period_ms: int, happen: Callable[[], None]) -> None:
        def again() -> None:
            happen()
            self.at(period_ms, again)

        self.at(period_ms, again)

    def _linked(self, one: SimulatedNode, other: SimulatedNode) -> bool:
        links = self.links
        there, back = links.carries(one.key, other.key), links.carries(other.key, one.key)
        return one.alive and other.alive and there and back

    def _transmit(self, sender: SimulatedNode, receiver: SimulatedNode, data: bytes) -> None:
        for delay_ms, arriving in self.links.arrivals((sender.key, receiver.key), data, now=self._now):
            self.at(delay_ms, partial(self._arrive, sender, receiver, arriving))

    def _arrive(self, sender: SimulatedNode, receiver: SimulatedNode, data: bytes) -> None:
        if not receiver.alive:
            return
        if receiver.paused_until > self._now:
            self.at(receiver.paused_until - self._now, lambda: self._arrive(sender, receiver, data))
            return
        message = self._decode(data)
        if isinstance(message, CompactProposal):
            receiver.hear(Announced(message, sender.key))
        elif message is not None:
            if isinstance(message, CommitCertificate):
                receiver.hear_of(message)
            receiver.take(Received(message, sender.key))

    def _decode(self, data: bytes) -> WireMessage | None:
        """What bytes mean does not depend on who reads them: the last messages are decoded once for all."""
        if data in self._decoded:
            return self._decoded[data]
        message: WireMessage | None = None
        with contextlib.suppress(Malformed):
            message = codec.decode_union(data, WireMessage)
        if len(self._decoded) >= DECODED:
            self._decoded.clear()
        self._decoded[data] = message
        return message

    def _submit(self) -> None:
        up = [node for node in self.nodes if node.alive and node.paused_until <= self._now]
        if not up:
            return
        view = self.market.random.choice(up)
        for transaction in self.market.transact(view.application.ledger, now=Millis(EPOCH_MS + self._now)):
            for node in up:
                self._tell(node, transaction)

    def _tell(self, node: SimulatedNode, transaction: bytes) -> None:
        self.after(node, self.random.randint(0, 50), lambda: node.submit(transaction))
