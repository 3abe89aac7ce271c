"""A world: nodes, the network between them, and one heap of events in one order that the seed decides.

No clock runs but the heap's, no thread, no trio: the same seed gives the same run on every machine. Safety is
checked after every event. A run has two phases: first anything the faults allow goes; then the network heals
(whoever is Byzantine stays so) and every honest node must decide further heights within a bound.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import Received
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.simulation.byzantine import Equivocator, Forger, LedgerCheat, SilentProposer, SplitProposer
from fondaco.node.simulation.faults import CALM, Counters, Faults
from fondaco.node.simulation.host import SimulatedNode
from fondaco.node.simulation.identities import CHEAP, Scheme
from fondaco.node.simulation.invariants import Invariants
from fondaco.node.simulation.ledger import EPOCH_MS, LedgerApplication, entries, genesis_of, store_of
from fondaco.node.simulation.market import Market
from fondaco.node.simulation.violation import Violation
from fondaco.protocol import codec
from fondaco.protocol.agreement import ConsensusMessage
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.scalars import Millis, Power, PublicKey

LIVENESS_MS = 180_000
"""After healing, rounds may have grown long: a dozen of them fit in this."""
LIVENESS_HEIGHTS = 3
FETCH_BLOCKS = 5
MINUTE_MS = 60_000
DECODED = 2_000


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
    without a vote. `scheme` is how everybody signs.
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
    ) -> None:
        self.seed = seed
        self.scheme = scheme
        self.config = EngineConfig() if config is None else config
        self.random = Random(seed)
        self.faults = faults
        self.counters = Counters()
        self.events = 0
        self._now = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._cut: set[tuple[PublicKey, PublicKey]] = set()
        self._healed = False
        self._decoded: dict[bytes, ConsensusMessage | None] = {}
        self.market = Market(seed, scheme)
        keys = [scheme.key(f"validator {index}") for index in range(len(powers) + spectators)]
        self._genesis = genesis_of(list(zip(keys, powers, strict=False)), self.market.balances)
        self.chain = self._genesis.chain
        validators = ValidatorSet.of((key, Power(power)) for key, power in zip(keys, powers, strict=False))
        self.invariants = Invariants(self.chain, validators, scheme, entries(self.new_store()))
        self.nodes = [self._make(index, key, len(powers)) for index, key in enumerate(keys)]
        self._by_key = {node.key: node for node in self.nodes}
        for node in self.nodes:
            self._at(self.random.randint(0, 50), node.boot)
        self._every(transaction_every_ms, self._submit)
        self._plan_faults()

    def run(self, *, safety_ms: int = 60_000) -> Report:
        """Both phases.  Raises `Violation` with the seed in it."""
        try:
            self.advance(safety_ms)
            self.heal()
            target = max(node.height for node in self.nodes) + LIVENESS_HEIGHTS
            deadline = self._now + LIVENESS_MS
            while not all(node.height >= target for node in self.honest()):
                if self._now > deadline:
                    heights = [node.height for node in self.nodes]
                    raise Violation(f"no progress to height {target} after healing: heights {heights}")
                self.advance(1_000)
            self.recount()
        except (AssertionError, KeyError, IndexError, Refused) as error:
            raise Violation(f"seed {self.seed}, {self._now} ms, {self.faults}: {error!r}") from error
        return self.report()

    def recount(self) -> None:
        """Count everything again: the chain replayed from genesis, and the store that comes of it."""
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
            faults=dict(self.counters.struck),
        )

    def advance(self, duration_ms: int) -> None:
        """Let that much time pass."""
        end = self._now + duration_ms
        while self._heap and self._heap[0][0] <= end:
            self._now, _, happen = heapq.heappop(self._heap)
            self.events += 1
            happen()
        self._now = end

    def heal(self) -> None:
        """The network is well from now on, and everybody is up."""
        self._healed = True
        self._cut.clear()
        for node in self.nodes:
            node.paused_until = 0
            if not node.alive and node.life:
                node.boot()

    def honest(self) -> list[SimulatedNode]:
        return [node for node in self.nodes if node.honest]

    def cut(self, one: SimulatedNode, other: SimulatedNode, *, both_ways: bool = True) -> None:
        """Nothing that `one` sends reaches `other` from now on."""
        self._cut.add((one.key, other.key))
        if both_ways:
            self._cut.add((other.key, one.key))

    def kill(self, node: SimulatedNode) -> None:
        """Kill -9; it stays down until `boot`."""
        if node.alive:
            unflushed = len(node.disk.journal) - node.disk.flushed
            node.kill(keep=self.random.randint(0, unflushed))

    # What nodes ask of their surroundings

    def now(self) -> int:
        return self._now

    def new_store(self) -> MemoryStore:
        return store_of(self._genesis)

    def application(self, store: MemoryStore) -> LedgerApplication:
        return LedgerApplication(self._genesis, store, self.scheme.verify)

    def post(self, sender: SimulatedNode, receiver: PublicKey | None, message: ConsensusMessage) -> None:
        data = codec.encode(message)
        for node in self.nodes if receiver is None else [self._by_key[receiver]]:
            if node is not sender:
                self._transmit(sender, node, data)

    def after(self, node: SimulatedNode, delay_ms: int, happen: Callable[[], None]) -> None:
        life = node.life

        def in_this_life() -> None:
            if not node.alive or node.life != life:
                return
            if node.paused_until > self._now:
                self._at(node.paused_until - self._now, in_this_life)
            else:
                happen()

        self._at(delay_ms, in_this_life)

    def work_ms(self) -> int:
        return self.random.randint(0, 5)

    def strikes(self, node: SimulatedNode) -> bool:
        chance = self.faults.kill_in_effects
        return not self._healed and chance > 0 and self.random.random() < chance

    def die(self, node: SimulatedNode) -> None:
        self.counters.count("kills in effects")
        self.kill(node)
        self._at(self.random.randint(100, self.faults.down_ms), lambda: self._revive(node))

    def fetch(self, node: SimulatedNode) -> None:
        life = node.life

        def happen() -> None:
            if not node.alive or node.life != life:
                return
            sources = [peer for peer in self.nodes if peer.height > node.height and self._linked(peer, node)]
            if not sources:
                return
            source = self.random.choice(sources)
            for block, certificate in source.disk.blocks[node.height : node.height + FETCH_BLOCKS]:
                node.accept(block, certificate)
            node.start_height()

        self._at(self.random.randint(5, 50), happen)

    # Inside

    def _make(self, index: int, key: PublicKey, validators: int) -> SimulatedNode:
        faults = self.faults
        kinds: list[type[SimulatedNode]] = (
            [Equivocator] * faults.equivocators
            + [SplitProposer] * faults.split_proposers
            + [Forger] * faults.forgers
            + [LedgerCheat] * faults.ledger_cheats
            + [SilentProposer] * faults.silent_proposers
        )
        from_the_end = validators - 1 - index
        kind = kinds[from_the_end] if 0 <= from_the_end < len(kinds) else SimulatedNode
        skew = self.random.randint(-faults.clock_skew_ms, faults.clock_skew_ms)
        return kind(self, key, validates=index < validators, skew_ms=skew)

    def _at(self, delay_ms: int, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (self._now + delay_ms, self._order, happen))

    def _every(self, period_ms: int, happen: Callable[[], None]) -> None:
        def again() -> None:
            happen()
            self._at(period_ms, again)

        self._at(period_ms, again)

    def _linked(self, one: SimulatedNode, other: SimulatedNode) -> bool:
        return one.alive and other.alive and not {(one.key, other.key), (other.key, one.key)} & self._cut

    def _transmit(self, sender: SimulatedNode, receiver: SimulatedNode, data: bytes) -> None:
        random, faults = self.random, self.faults
        if (sender.key, receiver.key) in self._cut:
            self.counters.count("cut off")
            return
        copies = 1
        if not self._healed:
            if random.random() < faults.loss:
                self.counters.count("lost")
                return
            if random.random() < faults.duplicates:
                self.counters.count("duplicated")
                copies = 2
            if random.random() < faults.garbage:
                self.counters.count("garbled")
                data = _garble(data, random)
        for _ in range(copies):
            delay = faults.delay_min_ms + round(random.expovariate(1 / faults.delay_mean_ms))
            self._at(delay, lambda: self._arrive(sender, receiver, data))

    def _arrive(self, sender: SimulatedNode, receiver: SimulatedNode, data: bytes) -> None:
        if not receiver.alive:
            return
        if receiver.paused_until > self._now:
            self._at(receiver.paused_until - self._now, lambda: self._arrive(sender, receiver, data))
            return
        message = self._decode(data)
        if message is not None:
            receiver.take(Received(message, sender.key))

    def _decode(self, data: bytes) -> ConsensusMessage | None:
        """What bytes mean does not depend on who reads them: the last messages are decoded once for all."""
        if data in self._decoded:
            return self._decoded[data]
        message: ConsensusMessage | None = None
        with contextlib.suppress(Malformed):
            message = codec.decode_union(data, ConsensusMessage)
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

    def _plan_faults(self) -> None:
        faults = self.faults
        for rate, strike in (
            (faults.partitions_per_minute, self._partition),
            (faults.kills_per_minute, self._kill_one),
            (faults.pauses_per_minute, self._pause_one),
        ):
            if rate:
                self._plan(rate, strike)

    def _plan(self, per_minute: float, strike: Callable[[], None]) -> None:
        def happen() -> None:
            if not self._healed:
                strike()
                self._plan(per_minute, strike)

        self._at(round(self.random.expovariate(per_minute / MINUTE_MS)), happen)

    def _partition(self) -> None:
        self.counters.count("partitions")
        cut_off = self.random.sample(self.nodes, self.random.randint(1, len(self.nodes) - 1))
        one_way = self.random.random() < 0.5
        links = set()
        for inside in cut_off:
            for outside in self.nodes:
                if outside not in cut_off:
                    links.add((inside.key, outside.key))
                    if not one_way:
                        links.add((outside.key, inside.key))
        self._cut |= links

        def end() -> None:
            self._cut -= links

        self._at(self.random.randint(100, self.faults.partition_ms), end)

    def _kill_one(self) -> None:
        node = self.random.choice(self.nodes)
        if node.alive:
            self.counters.count("kills")
            self.kill(node)
            self._at(self.random.randint(100, self.faults.down_ms), lambda: self._revive(node))

    def _pause_one(self) -> None:
        self.counters.count("pauses")
        self.random.choice(self.nodes).paused_until = self._now + self.random.randint(100, self.faults.pause_ms)

    def _revive(self, node: SimulatedNode) -> None:
        if not node.alive:
            node.boot()


def _garble(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ random.randint(1, 255)]) + data[place + 1 :]
