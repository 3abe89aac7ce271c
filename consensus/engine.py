"""The engine: Tendermint over many heights, as a pure function of what it is told.

    host --events--> Engine.step --effects--> host

Every event that matters is first *admitted* (verified, and of use), then becomes a journal entry, then is
applied. Replay takes the last of these steps alone, with the mouth shut, so a recovered engine is in the very
state it was in. What was asked to be signed and never came back is asked again, and the host's sign state
decides.

    StartHeight -> (idle) -> Wake or a message of this height -> rounds -> Commit -> StartHeight

A node without a key, or whose key is not in the set, runs the same code and never signs. No node signs at or
below the highest height it has seen a verified commit certificate for: catching up must not vote.
"""

from __future__ import annotations

from typing import assert_never

from fondaco.consensus import admission
from fondaco.consensus.blocks import Place
from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.config import EngineConfig
from fondaco.consensus.driver import Driver
from fondaco.consensus.effects import (
    Effect,
    Event,
    Happening,
    Punish,
    Received,
    Record,
    ReportEvidence,
    RequestSync,
    Send,
    Signed,
    StartHeight,
    Timer,
    TimerFired,
    Validated,
    ValueReady,
    Wake,
)
from fondaco.consensus.height import STEP_TIMERS, AtHeight
from fondaco.consensus.journal_entries import (
    BuiltEntry,
    Happened,
    HeightEntry,
    MessageEntry,
    RoundZeroEntry,
    TimeoutEntry,
    VerdictEntry,
    decode_entry,
)
from fondaco.consensus.outbox import Outbox
from fondaco.consensus.watch import Watch
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import (
    CommitCertificate,
    CompactProposal,
    ConsensusMessage,
    RoundCertificate,
    SignedProposal,
    SignedVote,
)
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Height, Millis, PublicKey
from fondaco.protocol.signing import Verify

_TIMER_STEPS = {timer: step for step, timer in STEP_TIMERS.items()}


class Engine:
    """One node's view of the agreement: `step` for everything; `replay` and `resume` after a restart.

    `verify` judges signatures; `key` is our public key if we validate (the secret one stays with the host).
    """

    def __init__(self, chain: ChainId, config: EngineConfig, verify: Verify, key: PublicKey | None) -> None:
        self.chain = chain
        self.config = config
        self.key = key
        self.final = Height(0)
        """The highest height that a verified certificate shows to be decided."""
        self._signatures = SignatureCache(chain, verify)
        self._outbox = Outbox()
        self._here: AtHeight | None = None
        self._below: Watch | None = None
        """Of the height below: what is said of it late may still break a word."""
        self._replaying_here = False

    @property
    def height(self) -> Height | None:
        """Being agreed on; None before the first `StartHeight`."""
        return None if self._here is None else self._here.place.height

    @property
    def driver(self) -> Driver | None:
        """For looking at: metrics, tests, the simulator's invariants."""
        return None if self._here is None else self._here.driver

    def step(self, event: Event, now: Millis) -> tuple[Effect, ...]:
        """Take one event at `now` (the host's clock) and return what is to be done, in order."""
        self._outbox.now = now
        here = self._here
        if isinstance(event, StartHeight):
            self._start_height(event)
        elif here is not None and here.decided is None:
            self._dispatch(event, here)
        elif here is not None:
            self._dispatch_decided(event, here)
        return self._outbox.drain()

    def expects(self, compact: CompactProposal) -> bool:
        """Whether the proposal that this stands for is of use: then it is worth what its transactions cost.

        Changes nothing. Raises `PeerFault` for what no honest peer says.
        """
        here, height = self._here, compact.proposal.height
        if here is None:
            return False
        if height == here.place.height and here.decided is None:
            return admission.admit_announced(compact, compact.header, here.driver, self._signatures.holds)
        ahead = height == here.place.height + 1
        return ahead and here.ahead.wants_proposal(compact, self._signatures.holds)

    def replay(self, entry: bytes) -> None:
        """Take back one journal entry of the current height, after `StartHeight` and before `resume`.

        Entries about another height are passed over.  Raises `Malformed` for what is no entry.
        """
        here = self._here
        assert here is not None, "replay comes after StartHeight"
        found = decode_entry(entry)
        if isinstance(found, HeightEntry):
            self._replaying_here = found.height == here.place.height
            here.in_journal |= self._replaying_here
        elif self._replaying_here and here.decided is None:
            self._outbox.muted = True
            self._outbox.now = found.time
            here.apply(found)
            self._outbox.muted = False
            self.final = Height(max(self.final, here.place.height if here.final else 0))

    def resume(self, now: Millis) -> tuple[Effect, ...]:
        """Go on after the last `replay`: say again what was said last, and ask again what was left open."""
        here = self._here
        assert here is not None, "resume comes after StartHeight"
        self._outbox.now = now
        self._outbox.restart_timers()
        here.resume()
        return self._outbox.drain()

    # Events

    def _dispatch(self, event: Happening, here: AtHeight) -> None:
        now = self._outbox.now
        match event:
            case Received():
                self._receive(event.message, event.sender, now, here)
            case Wake():
                self._wake(here)
            case TimerFired():
                self._fire(event, here)
            case Signed():
                self._take_signed(event.message, here)
            case Validated():
                if event.height == here.place.height and event.value in here.judging:
                    self._take(VerdictEntry(time=now, value=event.value, valid=event.valid), here)
            case ValueReady():
                wanted = here.building
                if wanted is not None and (event.height, event.round) == (wanted.height, wanted.round):
                    self._take(BuiltEntry(time=now, round=event.round, block=event.block), here)
            case _:
                assert_never(event)

    def _dispatch_decided(self, event: Happening, here: AtHeight) -> None:
        """Between a commit and the next height only what lies ahead is listened to."""
        if isinstance(event, Received):
            self._receive(event.message, event.sender, self._outbox.now, here)
        elif isinstance(event, TimerFired) and event.timer is Timer.REBROADCAST:
            self._fire(event, here)

    def _start_height(self, event: StartHeight) -> None:
        before = self._here
        assert before is None or event.height > before.place.height, "heights only grow"
        place = Place(
            chain=self.chain,
            height=event.height,
            validators=event.validators,
            previous=event.previous,
            previous_time=event.previous_time,
            previous_certificate=event.previous_certificate,
            previous_validators=event.previous_validators,
        )
        here = self._here = AtHeight(place, self.key, self.config, self._outbox, self._signatures)
        here.final = self.final >= event.height
        self.final = Height(max(self.final, event.height - 1))
        self._outbox.cancel(*Timer)
        # A block stamped ahead of our clock must not make us wait for more than one interval.
        earliest = min(event.previous_time, self._outbox.now) + self.config.min_block_interval_ms
        here.not_before = Millis(earliest)
        self._outbox.set_timer(Timer.REBROADCAST, self.config.rebroadcast_ms)
        self._below = None
        if before is not None and before.place.height == event.height - 1:
            self._below = before.driver.keeper.watch
            for message, sender, received in before.ahead.waiting():
                self._receive(message, sender, received, here)

    def _wake(self, here: AtHeight) -> None:
        now = self._outbox.now
        if here.driver.started:
            return
        if now >= here.not_before:
            self._take(RoundZeroEntry(time=now), here)
        elif not self._outbox.runs(Timer.START):
            self._outbox.set_timer(Timer.START, here.not_before - now)

    def _fire(self, event: TimerFired, here: AtHeight) -> None:
        running = self._outbox.fired(event.timer, event.generation)
        if running is None:
            return
        match event.timer:
            case Timer.START:
                here.not_before = self._outbox.now
                self._wake(here)
            case Timer.REBROADCAST:
                self._outbox.set_timer(Timer.REBROADCAST, self.config.rebroadcast_ms)
                if here.lags() or (here.decided is None and self.final >= here.place.height):
                    self._outbox.emit(RequestSync(Height(max(self.final, here.place.height))))
                here.rebroadcast()
            case _:
                step = int(_TIMER_STEPS[event.timer])
                self._take(TimeoutEntry(time=self._outbox.now, step=step, round=running.round), here)

    def _take_signed(self, message: SignedVote | SignedProposal, here: AtHeight) -> None:
        statement = message.vote if isinstance(message, SignedVote) else message.proposal
        if any(request.statement == statement for request in here.unsigned):
            self._take(MessageEntry(time=self._outbox.now, message=message, own=True), here)

    def _take(self, entry: Happened, here: AtHeight) -> None:
        """Journal an entry, then apply it: nothing that follows from it can precede it."""
        if not here.in_journal:
            here.in_journal = True
            self._outbox.emit(Record(codec.encode(HeightEntry(height=here.place.height))))
        self._outbox.emit(Record(codec.encode(entry)))
        here.apply(entry)
        self.final = Height(max(self.final, here.place.height if here.final else 0))

    # Messages

    def _receive(
        self, message: ConsensusMessage, sender: PublicKey | None, received: Millis, here: AtHeight
    ) -> None:
        """Admit, then take. `received` is when it came, which for one that waited ahead is not now."""
        try:
            height = height_of(message)
            if height == here.place.height:
                if here.decided is not None:
                    self._hear_late(message, here.driver.keeper.watch)
                elif self._admit(message, here):
                    self._take_message(message, received, here)
            elif height > here.place.height:
                self._receive_ahead(message, sender, received, here)
            elif height == here.place.height - 1:
                self._hear_late(message, self._below)
                if not isinstance(message, CommitCertificate):
                    self._help(sender, here)
        except PeerFault as fault:
            if sender is not None:
                self._outbox.emit(Punish(sender, fault))

    def _admit(self, message: ConsensusMessage, here: AtHeight) -> bool:
        holds = self._signatures.holds
        match message:
            case SignedVote():
                return admission.admit_vote(message, here.driver, holds)
            case SignedProposal():
                return admission.admit_proposal(message, here.driver, holds)
            case RoundCertificate():
                return admission.admit_round(message, here.driver, holds)
            case CommitCertificate():
                return not here.knows(message) and admission.admit_commit(message, here.driver, holds)
            case _:
                assert_never(message)

    def _take_message(self, message: ConsensusMessage, received: Millis, here: AtHeight) -> None:
        if not here.driver.started and not isinstance(message, CommitCertificate):
            # Somebody had a reason to begin; waiting for one of our own would only cost them a round.
            self._take(RoundZeroEntry(time=self._outbox.now), here)
        self._take(MessageEntry(time=received, message=message, own=False), here)
        if isinstance(message, SignedProposal) and message.block.previous_certificate is not None:
            # What its proposer was told of the height below, and we perhaps were not.
            self._hear_late(message.block.previous_certificate, self._below)

    def _hear_late(self, message: ConsensusMessage, watch: Watch | None) -> None:
        """Of a height that is decided only broken words are news. Raises `PeerFault` for a bad signature."""
        if watch is not None:
            watch.note_late(message, self._signatures.holds)
            for evidence in watch.take():
                self._outbox.emit(ReportEvidence(evidence))

    def _receive_ahead(
        self, message: ConsensusMessage, sender: PublicKey | None, received: Millis, here: AtHeight
    ) -> None:
        if isinstance(message, CommitCertificate):
            self._hear_of(message, here)
        elif isinstance(message, SignedVote | SignedProposal) and height_of(message) == here.place.height + 1:
            here.ahead.keep(message, sender, received, self._signatures.holds)

    def _hear_of(self, certificate: CommitCertificate, here: AtHeight) -> None:
        """Someone is ahead. If the set has changed since, this proves nothing and nobody is to blame."""
        if certificate.height <= self.final:
            return
        try:
            verify_commit(certificate, here.place.validators, self._signatures.holds)
        except PeerFault:
            return
        self.final = certificate.height
        here.final = True
        self._outbox.emit(RequestSync(certificate.height))

    def _help(self, sender: PublicKey | None, here: AtHeight) -> None:
        """A peer still votes at the height below: send it what ends that, now and then."""
        certificate, answered, now = here.place.previous_certificate, here.answered, self._outbox.now
        if sender is None or certificate is None:
            return
        if sender in answered and now < answered[sender] + self.config.rebroadcast_ms:
            return
        if sender in answered or len(answered) < limits.COMMIT_REPLIES:
            answered[sender] = now
            self._outbox.emit(Send(sender, certificate))


def height_of(message: ConsensusMessage) -> Height:
    """The height a message is about.  Raises `PeerFault` for a round certificate without votes."""
    match message:
        case SignedVote():
            return message.vote.height
        case SignedProposal():
            return message.proposal.height
        case RoundCertificate():
            if not message.votes:
                raise PeerFault("certificate.places", "a round certificate without votes")
            return message.votes[0].vote.height
        case CommitCertificate():
            return message.height
        case _:
            assert_never(message)
