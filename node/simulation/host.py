"""A simulated host: carries the engine's effects out, with a disk that survives a kill and a tail that may not.

It keeps the promises `fondaco.consensus.effects` asks of a host (flush before what leaves, the sign state
before a signature), and dies at the seed's pleasure between any two effects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, assert_never

from fondaco.consensus import rebuilding
from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import (
    Broadcast,
    CancelTimer,
    Commit,
    Effect,
    Event,
    GetValue,
    Punish,
    Received,
    Record,
    ReportEvidence,
    RequestSync,
    Send,
    SetTimer,
    Sign,
    Signed,
    StartHeight,
    Timer,
    TimerFired,
    Validate,
    Validated,
    ValueReady,
    Wake,
)
from fondaco.consensus.engine import Engine
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.consensus.rebuilding import Ask, Rebuilder
from fondaco.node.simulation.identities import Scheme
from fondaco.node.simulation.invariants import Invariants
from fondaco.node.simulation.ledger import EPOCH_MS, LedgerApplication, root
from fondaco.node.simulation.pool import Pool
from fondaco.node.simulation.violation import Violation
from fondaco.protocol import codec
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    ConsensusMessage,
    Proposal,
    SignedProposal,
    SignedVote,
    Vote,
)
from fondaco.protocol.evidence import Amnesia, DuplicateVote
from fondaco.protocol.scalars import ChainId, Height, Millis, PublicKey, Signature

HEARTBEAT_MS = 10_000
"""An idle chain makes a block this often, so that light clients can tell it is alive."""


class Surroundings(Protocol):
    """What a node can do to the world."""

    chain: ChainId
    initial_height: int
    config: EngineConfig
    scheme: Scheme
    invariants: Invariants
    random: Random

    def now(self) -> int:
        """Milliseconds since the world began."""

    def new_store(self) -> MemoryStore:
        """At genesis."""

    def application(self, store: MemoryStore) -> LedgerApplication:
        """A ledger that knows what the store holds and nothing else."""

    def post(self, sender: SimulatedNode, receiver: PublicKey | None, message: ConsensusMessage) -> None:
        """Send to one, or to everybody else."""

    def post_bytes(self, sender: SimulatedNode, receiver: PublicKey | None, data: bytes) -> None:
        """As `post`, for what need not be a message."""

    def after(self, node: SimulatedNode, delay_ms: int, happen: Callable[[], None]) -> None:
        """Let `happen` happen to this life of `node` later."""

    def work_ms(self) -> int:
        """How long building or checking a block takes this time."""

    def strikes(self, node: SimulatedNode) -> bool:
        """Whether the process dies here."""

    def die(self, node: SimulatedNode, *, before: str) -> None: ...

    def count(self, fault: str) -> None:
        """Something went wrong on purpose."""

    def fetch(self, node: SimulatedNode) -> None:
        """Ask the network for the blocks above the node's own."""

    def ask(self, node: SimulatedNode, ask: Ask) -> None:
        """Ask a peer for transactions; the node hears the answer, or after a while that there is none."""


@dataclass(slots=True)
class Disk:
    """What survives. A block and what it wrote are committed together, as one database transaction."""

    store: MemoryStore
    blocks: list[tuple[Block, CommitCertificate]] = field(default_factory=list)
    journal_height: Height | None = None
    journal: list[bytes] = field(default_factory=list)
    flushed: int = 0
    signed: tuple[tuple[int, int, int], Vote | Proposal, Signature] | None = None
    """The sign state: (height, round, step), the statement, its signature."""


class SimulatedNode:
    """One process that can die and come back."""

    def __init__(self, world: Surroundings, key: PublicKey, *, validates: bool = True, skew_ms: int = 0) -> None:
        self.world = world
        self.key = key
        self.skew_ms = skew_ms
        self.step_ms = 0
        """How far the clock has jumped, on top of the skew it always had."""
        self.disk = Disk(store=world.new_store())
        self.alive = False
        self.life = 0
        self.paused_until = 0
        self.pool = Pool(self._admits)
        self.evidence: list[DuplicateVote | Amnesia] = []
        self.punished: list[Punish] = []
        self._validates = validates
        self._signatures = SignatureCache(world.chain, world.scheme.verify)
        self._queue: deque[Event] = deque()
        self._final = Height(0)

    honest = True

    @property
    def height(self) -> int:
        """Of the newest block."""
        return self.world.initial_height - 1 + len(self.disk.blocks)

    def clock(self) -> Millis:
        return Millis(EPOCH_MS + self.world.now() + self.skew_ms + self.step_ms)

    def boot(self) -> None:
        """Start, or start again: from what was committed, replay the journal, go on."""
        self.alive = True
        self.life += 1
        self._final = Height(0)
        self._queue.clear()
        self.application = self.world.application(self.disk.store)
        self.pool = Pool(self._admits)
        self.engine = Engine(
            self.world.chain, self.world.config, self.world.scheme.verify, self.key if self._validates else None
        )
        self.rebuilder = Rebuilder(self.engine.expects, self.pool.named, self._others, whole_bytes=0)
        self._carry_out(self.engine.step(self._next_height(), self.clock()))
        if self.alive and self.disk.journal_height == self.height + 1:
            for entry in self.disk.journal:
                self.engine.replay(entry)
        if self.alive:
            self._carry_out(self.engine.resume(self.clock()))
            self._work_off()
        self._wake_up()

    def kill(self, *, keep: int) -> None:
        """Die; of the journal, everything flushed and `keep` entries more are left."""
        self.alive = False
        self._queue.clear()
        self.disk.journal = self.disk.journal[: self.disk.flushed + keep]
        self.disk.flushed = len(self.disk.journal)

    def take(self, event: Event) -> None:
        """Feed the engine one event and do everything it asks for."""
        self._queue.append(event)
        self._work_off()

    def hear(self, event: rebuilding.Event) -> None:
        """Of a compact proposal, or of transactions that one named; the engine hears of those that are whole."""
        for effect in self.rebuilder.step(event):
            match effect:
                case Received():
                    self._queue.append(effect)
                case Ask():
                    self.world.ask(self, effect)
                case Punish():
                    self.punished.append(effect)
                case _:
                    assert_never(effect)
        self._work_off()

    def hear_of(self, certificate: CommitCertificate) -> None:
        """Note for ourselves, apart from the engine, that a height is decided: nothing may be signed there."""
        if certificate.height == self.engine.height and self.world.invariants.is_sound(certificate):
            self._final = certificate.height

    def start_height(self) -> None:
        """Begin the height above the newest block, unless that has happened."""
        at = self.engine.height
        if at is None or at <= self.height:
            self.take(self._next_height())
            self._wake_up()

    def submit(self, transaction: bytes) -> None:
        if self.pool.add(transaction):
            self.take(Wake())

    def accept(self, block: Block, certificate: CommitCertificate) -> None:
        """A block fetched from a peer: its certificate first, then the block."""
        if block.header.height != self.height + 1 or certificate.value != block.header.hash():
            return
        verify_commit(certificate, self.application.validators, self._signatures.holds)
        self._store(block, certificate)

    def _next_height(self) -> StartHeight:
        head = self.application.head
        assert head.height == self.height, "blocks and ledger are committed together"
        self.rebuilder.forget_below(Height(head.height + 1))
        return StartHeight(
            height=Height(head.height + 1),
            validators=self.application.validators,
            previous=head.hash,
            previous_time=head.time,
            previous_certificate=self.disk.blocks[-1][1] if self.disk.blocks else None,
            previous_validators=self.application.previous_validators,
        )

    def _wake_up(self) -> None:
        if self.alive:
            height = self.height
            due = self.application.next_due_moment()
            wait_ms = HEARTBEAT_MS if due is None else min(HEARTBEAT_MS, max(0, due - self.clock()))
            self.world.after(self, 0 if self.pool else wait_ms, lambda: self._heartbeat(height))

    def _heartbeat(self, height: int) -> None:
        if self.height == height:
            self.take(Wake())

    def _answer(self, delay_ms: int, event: Event) -> None:
        self.world.after(self, delay_ms, lambda: self.take(event))

    def _work_off(self) -> None:
        while self._queue and self.alive:
            self._carry_out(self.engine.step(self._queue.popleft(), self.clock()))

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if self.world.strikes(self):
                self.world.die(self, before=type(effect).__name__)
                return
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Record(entry):
                if self.disk.journal_height != self.engine.height:
                    self.disk.journal_height = self.engine.height
                    self.disk.journal, self.disk.flushed = [], 0
                self.disk.journal.append(entry)
            case Sign():
                self._flush()
                self._sign(effect)
            case Broadcast(message):
                self._flush()
                self._check_said(message)
                self.broadcast(message)
            case Send(peer, message):
                self._flush()
                world.post(self, peer, message)
            case SetTimer(timer, generation, delay):
                self._answer(delay, TimerFired(timer, generation))
            case CancelTimer(timer):
                assert timer in Timer, "a firing that comes anyway is stale by its generation"
            case GetValue():
                self._answer(world.work_ms(), self._build(effect))
            case Validate(block):
                self._answer(world.work_ms(), self._judge(block))
            case Commit(block, certificate):
                self._flush()
                self._commit(block, certificate)
            case ReportEvidence(evidence):
                self.evidence.append(evidence)
            case RequestSync():
                world.fetch(self)
            case Punish():
                self.punished.append(effect)
            case _:
                assert_never(effect)

    def broadcast(self, message: ConsensusMessage) -> None:
        self.world.post(self, None, message)

    def peers(self) -> list[PublicKey]:
        return [
            member.public_key for member in self.application.validators.members if member.public_key != self.key
        ]

    def _others(self) -> list[PublicKey]:
        peers = self.peers()
        return self.world.random.sample(peers, len(peers))

    def allows_signing(self, statement: Vote | Proposal) -> bool:
        return True

    def _sign(self, request: Sign) -> None:
        statement = request.statement
        if not self.allows_signing(statement):
            return
        kind = int(statement.kind) if isinstance(statement, Vote) else 0
        place = (int(statement.height), int(statement.round), kind)
        last = self.disk.signed
        if last is not None and (place < last[0] or (place == last[0] and statement != last[1])):
            return
        signature = self.world.scheme.sign(self.world.chain, self.key, statement)
        self.disk.signed = (place, statement, signature)
        if isinstance(statement, Vote):
            if self.honest:
                if statement.height <= self._final:
                    raise Violation(f"height {statement.height}: signed after a certificate showed it decided")
                self.world.invariants.voted(self.key, statement)
            message: SignedVote | SignedProposal = SignedVote(
                vote=statement, validator=self.key, signature=signature
            )
        else:
            assert request.block is not None, "a proposal comes with its block"
            message = SignedProposal(
                proposal=statement, block=request.block, proposer=self.key, signature=signature
            )
        self._queue.append(Signed(message))

    def _build(self, wanted: GetValue) -> ValueReady:
        block = self.propose(wanted.time)
        if self.honest:
            self.world.invariants.proposed(block)
        return ValueReady(height=wanted.height, round=wanted.round, block=block)

    def propose(self, time: Millis) -> Block:
        return self.application.prepare(
            time=time,
            proposer=self.key,
            previous_certificate=self.disk.blocks[-1][1] if self.disk.blocks else None,
            transactions=self.pool.candidates,
        )

    def _judge(self, block: Block) -> Validated:
        valid = self.application.process(block)
        if self.honest:
            self.world.invariants.judged(block, valid=valid)
        return Validated(height=block.header.height, value=block.header.hash(), valid=valid)

    def _admits(self, transaction: bytes) -> bool:
        return self.application.admits(transaction, now=self.clock())

    def _commit(self, block: Block, certificate: CommitCertificate) -> None:
        if block.header.height == self.height + 1:
            self._store(block, certificate)
            self.world.after(self, self.world.work_ms(), self.start_height)

    def _store(self, block: Block, certificate: CommitCertificate) -> None:
        if self.honest:
            self.world.invariants.committed(block, certificate)
        execution = self.application.apply(block)
        self.disk.blocks.append((block, certificate))
        if self.honest:
            self.world.invariants.executed(execution, root(self.disk.store))
        self.pool.after_block(block.transactions)

    def _flush(self) -> None:
        self.disk.flushed = len(self.disk.journal)

    def _check_said(self, message: ConsensusMessage) -> None:
        """What we say must be on disk by now, and what we pass on as final must be final."""
        if not self.honest:
            return
        if isinstance(message, CommitCertificate):
            self.world.invariants.certified(message)
        elif isinstance(message, SignedVote) and message.validator == self.key:
            said = codec.encode(message)
            if not any(said in entry for entry in reversed(self.disk.journal[: self.disk.flushed])):
                raise Violation(f"height {message.vote.height}: a vote left before it was in the journal")
