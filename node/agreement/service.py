"""The engine's host: carries out its effects in order, on disk before on the wire.

One task takes events from a bounded inbox, steps the engine, and does what it asks. Nothing else touches the
engine, so that what it sees is a sequence. When the journal or the sign state cannot be written the node stops:
a validator that does not know what it signed must not sign.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import assert_never

import trio

from fondaco.consensus import rebuilding
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
from fondaco.consensus.rebuilding import Announced, Answered, Ask
from fondaco.consensus.watch import culprit
from fondaco.node import clock
from fondaco.node.agreement.evidence_pool import EvidencePool
from fondaco.node.agreement.finality import Finality
from fondaco.node.agreement.journal import Journal
from fondaco.node.agreement.pacing import Pace
from fondaco.node.agreement.proposals import Proposals
from fondaco.node.agreement.sign_state import SignState
from fondaco.node.agreement.voice import Voice
from fondaco.node.chain import Chain
from fondaco.node.mempool import Mempool
from fondaco.node.network.links import Links
from fondaco.node.network.peers import PeerId, peer_id_of, public_key_of
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    CompactProposal,
    Proposal,
    Vote,
    WireMessage,
)
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.evidence import Evidence
from fondaco.protocol.scalars import Height, Millis
from fondaco.protocol.signing import Signer

log = logging.getLogger("fondaco.agreement")
PROTOCOL = "/fondaco/consensus/1"
Blame = Callable[[PeerId, PeerFault], None]


@dataclass(frozen=True, slots=True)
class _Adopt:
    """A block that sync fetched and checked, to be committed between two steps."""

    block: Block
    certificate: CommitCertificate
    done: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True, slots=True)
class _Judge:
    """A proposed block whose transactions have been looked at ahead, in threads."""

    block: Block


_Event = Event | rebuilding.Event | _Adopt | _Judge


class Agreement:
    """Runs the engine for a validator (with `signer` and `sign_state`) or for a node that only follows."""

    def __init__(
        self,
        chain: Chain,
        mempool: Mempool,
        engine: Engine,
        journal: Journal,
        evidence: EvidencePool,
        *,
        signer: Signer | None = None,
        sign_state: SignState | None = None,
    ) -> None:
        self._chain = chain
        self._mempool = mempool
        self.engine = self._engine = engine
        self._journal = journal
        self._evidence = evidence
        evidence.spread = self._spread
        self._pace = Pace(chain, mempool, evidence)
        chain.listeners.append(lambda execution: evidence.after_commit(execution.block.evidence))
        self._voice: Voice | None = None
        if signer is not None:
            assert sign_state is not None, "a validator keeps a sign state"
            self._voice = Voice(chain.id, signer, sign_state)
        self.proposals = Proposals(engine, mempool)
        self._send_inbox, self._inbox = trio.open_memory_channel[_Event](limits.AGREEMENT_INBOX)
        self._timers: dict[Timer, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._links: Links | None = None
        self._blame: Blame = lambda _peer, _fault: None
        self._request_sync: Callable[[], None] = lambda: None
        self.finality = Finality()
        self.dropped = 0
        """Messages that found the inbox full."""

    def attach(self, links: Links, blame: Blame, request_sync: Callable[[], None]) -> None:
        """Say where messages go out, whom to tell of faults, and who fetches blocks; before `run`."""
        self._links = self.proposals.links = links
        self._blame = blame
        self._request_sync = request_sync

    @property
    def links(self) -> Links | None:
        """The streams that votes and proposals travel on; None before `attach`."""
        return self._links

    def on_up(self, peer: PeerId) -> None:
        """Tell a peer that has just been linked of the evidence that waits."""
        if self._links is not None:
            for raw in self._evidence.candidates():
                self._links.send(peer, raw)

    async def on_frame(self, peer: PeerId, frame: bytes) -> None:
        """Take a peer's message in. Raises `PeerFault` for what is none, and for evidence that is made up."""
        message: WireMessage | Evidence = codec.decode_union(frame, WireMessage | Evidence)
        if isinstance(message, Evidence):
            self._evidence.add_from_peer(frame)
            return
        sender = public_key_of(peer)
        try:
            self._send_inbox.send_nowait(
                Announced(message, sender) if isinstance(message, CompactProposal) else Received(message, sender)
            )
        except trio.WouldBlock:
            self.dropped += 1  # the sender says it again; a full inbox means that we are far behind

    async def adopt(self, block: Block, certificate: CommitCertificate) -> bool:
        """Commit a block that was fetched and checked; whether it was the next one."""
        await self._mempool.verifier.warm(block.transactions)
        request = _Adopt(block, certificate)
        await self._send_inbox.send(request)
        await request.done.wait()
        return self._chain.head.height >= block.header.height

    async def run(self) -> None:
        """Agree until cancelled. Raises what must stop the node."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._carry_out(self._recover())
            nursery.start_soon(self._wake)
            async for event in self._inbox:
                match event:
                    case _Adopt():
                        self._adopt(event)
                    case _Judge():
                        self._judge(event.block)
                    case Announced() | Answered():
                        self._rebuild(event)
                    case _:
                        self._feed(event)

    def _recover(self) -> tuple[Effect, ...]:
        """Bring the engine to where the journal says it stood."""
        start = self._start_height()
        if self._journal.height != start.height:
            self._begin_segment(start.height)
        self._carry_out(self._engine.step(start, clock.now()))
        entries = 0
        for entry in self._journal.entries(start.height):
            self._engine.replay(entry)
            entries += 1
        if self._voice is not None:
            self._voice.notice_loss(start.height, journaled=entries > 0)
        return self._engine.resume(clock.now())

    def _begin_segment(self, height: Height) -> None:
        self._journal.begin(height)
        self._journal.prune(Height(max(0, height - limits.JOURNAL_HEIGHTS)))

    def _start_height(self) -> StartHeight:
        head, params = self._chain.head, self._chain.ledger.params
        self.proposals.rebuilder.forget_below(Height(head.height + 1))
        self._engine.config = replace(self._engine.config, min_block_interval_ms=params.min_block_interval_ms)
        return StartHeight(
            height=Height(head.height + 1),
            validators=self._chain.ledger.validators,
            previous=head.hash,
            previous_time=head.time,
            previous_certificate=self._chain.certificate(),
            previous_validators=self._chain.validators_at(head.height),
        )

    async def _wake(self) -> None:
        """Ring the engine when there is something to agree on."""
        while True:
            committed = await self._pace.wait()
            await self._send_inbox.send(Wake())
            await committed.wait()

    def _feed(self, event: Event) -> None:
        self._carry_out(self._engine.step(event, clock.now()))

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        """Do what the engine asks, and what follows from it, until it asks for nothing more."""
        answers: deque[Event] = deque()
        while True:
            for effect in effects:
                answer = self._do(effect)
                if answer is not None:
                    answers.append(answer)
            if not answers:
                return
            effects = self._engine.step(answers.popleft(), clock.now())

    def _do(self, effect: Effect) -> Event | None:
        match effect:
            case Record(entry):
                self._journal.append(entry)
            case Sign(statement, block):
                self._journal.flush()
                return self._sign(statement, block)
            case Broadcast(message):
                self._journal.flush()
                if self._links is not None:
                    self._links.broadcast(self.proposals.encode(message))
            case Send(peer, message):
                self._journal.flush()
                if self._links is not None:
                    self._links.send(peer_id_of(peer), self.proposals.encode(message))
            case SetTimer(timer, generation, delay_ms):
                self._set_timer(timer, generation, delay_ms)
            case CancelTimer(timer):
                self._cancel_timer(timer)
            case GetValue(height, round, time):
                return ValueReady(height=height, round=round, block=self._build(time))
            case Validate(block):
                if self._mempool.verifier.knows(block.transactions):
                    return self._verdict(block)
                assert self._nursery is not None, "blocks are judged while the engine runs"
                self._nursery.start_soon(self._look_ahead, block)
            case Commit(block, certificate):
                self._journal.flush()
                start = self._commit(block, certificate)
                self.finality.note(clock.now() - block.header.time, round=certificate.round)
                return start
            case ReportEvidence(evidence):
                log.warning("validator %s broke its word at height %d", culprit(evidence).hex(), evidence.height)
                self._report(evidence)
            case RequestSync():
                self._request_sync()
            case Punish():
                self._punish(effect)
            case _:
                assert_never(effect)
        return None

    def _punish(self, punish: Punish) -> None:
        log.warning("peer %s: %s", peer_id_of(punish.peer), punish.fault)
        self._blame(peer_id_of(punish.peer), punish.fault)

    def _rebuild(self, event: rebuilding.Event) -> None:
        """Make compact proposals whole; the engine hears of those that are."""
        for effect in self.proposals.rebuilder.step(event):
            match effect:
                case Received():
                    self._feed(effect)
                case Ask():
                    assert self._nursery is not None, "peers are asked while the engine runs"
                    self._nursery.start_soon(self._fetch, effect)
                case Punish():
                    self._punish(effect)
                case _:
                    assert_never(effect)

    async def _fetch(self, ask: Ask) -> None:
        try:
            answered = await self.proposals.fetch(ask)
        except PeerFault as fault:
            self._punish(Punish(ask.peer, fault))
            answered = Answered(ask, ())
        await self._send_inbox.send(answered)

    def _sign(self, statement: Vote | Proposal, block: Block | None) -> Event | None:
        assert self._voice is not None, "a node without a key was asked to sign"
        signed = self._voice.sign(statement, block)
        return None if signed is None else Signed(signed)

    def _report(self, evidence: Evidence) -> None:
        try:
            self._evidence.report(evidence)
        except Refused as refusal:
            log.warning("this evidence is not kept: %s", refusal)

    def _spread(self, raw: bytes) -> None:
        if self._links is not None:
            self._links.broadcast(raw)

    def _build(self, time: Millis) -> Block:
        assert self._voice is not None, "a node without a key was asked to propose"
        return self._chain.ledger.prepare_proposal(
            time=time,
            proposer=self._voice.key,
            previous_certificate=self._chain.certificate(),
            candidates=self._mempool.candidates(),
            evidence=self._evidence.candidates(),
        )

    async def _look_ahead(self, block: Block) -> None:
        """Check the signatures of a block beside the engine, which hears of votes meanwhile."""
        await self._mempool.verifier.warm(block.transactions)
        await self._send_inbox.send(_Judge(block))

    def _judge(self, block: Block) -> None:
        """Tell the engine of a block that was looked at, unless its height is over."""
        if block.header.height == self._chain.head.height + 1:
            self._feed(self._verdict(block))

    def _verdict(self, block: Block) -> Validated:
        return Validated(height=block.header.height, value=block.header.hash(), valid=self._is_valid(block))

    def _is_valid(self, block: Block) -> bool:
        try:
            self._chain.ledger.process_proposal(block)
        except Refused as refusal:
            log.warning("proposal %d refused: %s", block.header.height, refusal)
            return False
        return True

    def _commit(self, block: Block, certificate: CommitCertificate) -> Event:
        self._chain.commit(block, certificate)
        start = self._start_height()
        self._begin_segment(start.height)
        return start

    def _adopt(self, request: _Adopt) -> None:
        if request.block.header.height == self._chain.head.height + 1:
            self._feed(self._commit(request.block, request.certificate))
        request.done.set()

    def _set_timer(self, timer: Timer, generation: int, delay_ms: int) -> None:
        assert self._nursery is not None, "timers run while the engine does"
        self._cancel_timer(timer)
        scope = self._timers[timer] = trio.CancelScope()
        self._nursery.start_soon(self._fire, scope, TimerFired(timer, generation), delay_ms)

    def _cancel_timer(self, timer: Timer) -> None:
        scope = self._timers.pop(timer, None)
        if scope is not None:
            scope.cancel()

    async def _fire(self, scope: trio.CancelScope, fired: TimerFired, delay_ms: int) -> None:
        with scope:
            await trio.sleep(delay_ms / 1_000)
            await self._send_inbox.send(fired)
