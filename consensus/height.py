"""One height of the engine: journal entries in, effects out, the same live and in replay.

An entry is something that was verified, or came from our own host; what the driver makes of it is carried out
here: votes and proposals are put to the host to be signed, certificates accompany what they justify, and a
decision becomes a certificate and a commit.
"""

from __future__ import annotations

from typing import assert_never

from fondaco.consensus.ahead import Ahead
from fondaco.consensus.blocks import Place, follows
from fondaco.consensus.certificates import SignatureCache, commit_from_votes
from fondaco.consensus.config import EngineConfig
from fondaco.consensus.driver import Driver
from fondaco.consensus.effects import (
    Broadcast,
    Commit,
    GetValue,
    ReportEvidence,
    RequestSync,
    Sign,
    Timer,
    Validate,
)
from fondaco.consensus.journal_entries import (
    BuiltEntry,
    Happened,
    MessageEntry,
    RoundZeroEntry,
    TimeoutEntry,
    VerdictEntry,
)
from fondaco.consensus.outbox import Outbox
from fondaco.consensus.rounds import (
    BuildValue,
    CastVote,
    Decide,
    Output,
    Propose,
    StartRound,
    StartTimeout,
    Step,
)
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    Proposal,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
)
from fondaco.protocol.scalars import Hash, Millis, PublicKey, Round

STEP_TIMERS = {Step.PROPOSE: Timer.PROPOSE, Step.PREVOTE: Timer.PREVOTE, Step.PRECOMMIT: Timer.PRECOMMIT}


class AtHeight:
    """Everything that is forgotten when the next height begins."""

    def __init__(
        self,
        place: Place,
        key: PublicKey | None,
        config: EngineConfig,
        outbox: Outbox,
        signatures: SignatureCache,
    ) -> None:
        self.place = place
        self.driver = Driver(place.validators, key)
        self.is_validator = key in place.validators.index
        self.final = False
        """A verified certificate shows this height, or a later one, to be decided: sign nothing here."""
        self.decided: Commit | None = None
        self.building: GetValue | None = None
        """Asked of the host and not yet answered, as are the next two."""
        self.unsigned: list[Sign] = []
        self.judging: dict[Hash, Block] = {}
        self.said: dict[VoteKind | None, SignedVote | SignedProposal] = {}
        """The last we said of each kind (None: a proposal); repeated by the rebroadcast timer."""
        self.not_before = Millis(0)
        """The minimum block interval."""
        self.in_journal = False
        """The journal says already which height its entries are about."""
        self.ahead = Ahead(place.validators)
        self.answered: dict[PublicKey, Millis] = {}
        """Peers still at the height below, and when they were last sent its certificate."""
        self._key = key
        self._config = config
        self._outbox = outbox
        self._signatures = signatures
        self._certificates: dict[tuple[Round, Hash], CommitCertificate] = {}
        self._ticks = 0

    def apply(self, entry: Happened) -> None:
        """Take one entry; the outbox says when it was."""
        driver = self.driver
        match entry:
            case RoundZeroEntry():
                self._outbox.cancel(Timer.START)
                self._carry_out(driver.start())
            case MessageEntry():
                self._apply_message(entry)
            case TimeoutEntry():
                self._outbox.forget(STEP_TIMERS[Step(entry.step)])
                self._carry_out(driver.timeout(Step(entry.step), entry.round))
            case BuiltEntry():
                self.building = None
                self._carry_out(driver.build(entry.round, entry.block))
            case VerdictEntry():
                self.judging.pop(entry.value, None)
                self._carry_out(driver.judge(entry.value, valid=entry.valid))
            case _:
                assert_never(entry)

    def resume(self) -> None:
        """After a replay: say the last again, and ask again what was left open."""
        emit, watch = self._outbox.emit, self.driver.keeper.watch
        watch.untake()
        for evidence in watch.take():
            emit(ReportEvidence(evidence))
        if self.decided is not None:
            emit(Broadcast(self.decided.certificate))
            emit(self.decided)
            return
        for message in self.said.values():
            emit(Broadcast(message))
        for request in () if self.final else self.unsigned:
            emit(request)
        if self.building is not None:
            # Its time is now: the moment it was first asked for may be long past.
            self._ask_for_value(self.building.round)
        for block in self.judging.values():
            emit(Validate(block))

    def rebroadcast(self) -> None:
        """Links lose messages when they break: repeat what others may need to get on.

        A polka goes with the proposal it is about, or a hidden lock could keep the others from ever
        prevoting the value (consensus.md). One validator a tick repeats the last commit certificate.
        """
        emit, driver = self._outbox.emit, self.driver
        self._ticks += 1
        if self.decided is not None:
            emit(Broadcast(self.decided.certificate))
            return
        if not self.is_validator or self._key is None:
            return
        members, below = self.place.validators, self.place.previous_certificate
        if below is not None and (self._ticks + members.index[self._key]) % len(members.members) == 0:
            emit(Broadcast(below))
        if not driver.started:
            return
        if driver.justification is not None:
            emit(Broadcast(driver.justification))
        valid = driver.state.valid
        if valid is not None:
            self._show_polka(valid.value, valid.round)
        for message in self.said.values():
            stale = isinstance(message, SignedProposal) and message.proposal.round < driver.state.round
            if not stale:
                emit(Broadcast(message))

    def knows(self, certificate: CommitCertificate) -> bool:
        """Whether it was taken before."""
        return (certificate.round, certificate.value) in self._certificates

    def lags(self) -> bool:
        """Whether others show this height to be decided while we have not."""
        certain = bool(self._certificates) or self.place.validators.has_third(self.ahead.weight())
        return certain and self.decided is None

    # Entries

    def _apply_message(self, entry: MessageEntry) -> None:
        message, driver = entry.message, self.driver
        if entry.own and isinstance(message, SignedVote | SignedProposal):
            self._note_said(message)
        match message:
            case SignedVote():
                self._carry_out(driver.add_vote(message))
            case SignedProposal():
                self._apply_proposal(message, entry.time)
            case RoundCertificate():
                self._carry_out(driver.add_certificate(message))
            case CommitCertificate():
                self._certificates[(message.round, message.value)] = message
                self.final = True
                driver.keeper.watch.note_certificate(message)
                self._carry_out(driver.add_commit(message.round, message.value))
                if self.decided is None and message.value not in driver.blocks:
                    self._outbox.emit(RequestSync(message.height))
            case _:
                assert_never(message)

    def _apply_proposal(self, signed: SignedProposal, received: Millis) -> None:
        driver, value = self.driver, signed.proposal.value
        timely = self._config.timely(time=signed.block.header.time, received=received, round=signed.proposal.round)
        self._carry_out(driver.add_proposal(signed, timely=timely))
        if value in driver.verdicts or value in self.judging:
            return
        if follows(signed.block, self.place, self._signatures.holds):
            self.judging[value] = signed.block
            self._outbox.emit(Validate(signed.block))
        else:
            self._carry_out(driver.judge(value, valid=False))

    def _note_said(self, message: SignedVote | SignedProposal) -> None:
        if isinstance(message, SignedVote):
            statement: Vote | Proposal = message.vote
            self.said[message.vote.kind] = message
        else:
            statement = message.proposal
            self.said[None] = message
        self.unsigned = [request for request in self.unsigned if request.statement != statement]
        self._outbox.emit(Broadcast(message))

    # Outputs of the rules

    def _carry_out(self, outputs: list[Output]) -> None:
        """What the driver answered, after what it found out on the way."""
        for evidence in self.driver.keeper.watch.take():
            self._outbox.emit(ReportEvidence(evidence))
        for output in outputs:
            match output:
                case StartRound():
                    self._outbox.cancel(*STEP_TIMERS.values())
                    if self.is_validator and self.driver.justification is not None:
                        self._outbox.emit(Broadcast(self.driver.justification))
                case BuildValue():
                    self._ask_for_value(output.round)
                    self._start_timeout(Step.PROPOSE, output.round)
                case Propose():
                    self._propose(output)
                case CastVote():
                    self._cast(output)
                case StartTimeout():
                    self._start_timeout(output.step, output.round)
                case Decide():
                    self._decide(output)
                case _:
                    assert_never(output)

    def _ask_for_value(self, round: Round) -> None:
        time = Millis(max(self._outbox.now, self.place.previous_time + 1))
        self.building = GetValue(self.place.height, round, time)
        self._outbox.emit(self.building)

    def _start_timeout(self, step: Step, round: Round) -> None:
        self._outbox.set_timer(STEP_TIMERS[step], self._config.timeout(step, round), round)

    def _propose(self, output: Propose) -> None:
        if output.valid_round is not None:
            self._show_polka(output.value, output.valid_round)
        proposal = Proposal(
            height=self.place.height,
            round=output.round,
            value=output.value,
            valid_round=output.valid_round,
        )
        self._sign(proposal, self.driver.blocks[output.value])

    def _show_polka(self, value: Hash, round: Round) -> None:
        self._outbox.emit(Broadcast(self.driver.polka_certificate(round, value)))
        proposal = self.driver.proposal_of(round, value)
        if proposal is not None:
            self._outbox.emit(Broadcast(proposal))

    def _cast(self, output: CastVote) -> None:
        vote = Vote(
            kind=output.kind,
            height=self.place.height,
            round=output.round,
            value=output.value,
            valid_round=output.valid_round,
        )
        self._sign(vote, None)

    def _sign(self, statement: Vote | Proposal, block: Block | None) -> None:
        if not self.is_validator or self.final:
            return
        request = Sign(statement, block)
        self.unsigned.append(request)
        self._outbox.emit(request)

    def _decide(self, output: Decide) -> None:
        certificate = self._certificates.get((output.round, output.value))
        if certificate is None:
            certificate = commit_from_votes(
                self.place.validators,
                height=self.place.height,
                round=output.round,
                value=output.value,
                votes=self.driver.keeper.quorum_votes(VoteKind.PRECOMMIT, output.round, output.value),
            )
        self.final = True
        self.decided = Commit(self.driver.blocks[output.value], certificate)
        self._outbox.cancel(Timer.START, *STEP_TIMERS.values())
        self._outbox.emit(Broadcast(certificate))
        self._outbox.emit(self.decided)
