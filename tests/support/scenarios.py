"""Plays scenario files: what an engine is told, and what it does about it, as a chat.

    What the scenario shows, in prose, comes first; prose may also stand between the commands.

    > prevote X r0 from ann bob cyd
      journal it (3 times)
      say precommit X r0

A line after `>` is a command; the indented lines below it are the engine's effects, in order, as they were carried
out. The validators are ann, bob, cyd and dan, of one vote each, who propose the rounds of height 1 in that order
(of height 2, from bob on); eve is a stranger. `r0` is a round, `vr0` a valid round, `h2` a height (the current
one if not given). `say S` is short for `sign S`, `journal our S`, `broadcast S`.

The host behind it is as `node.agreement`: it flushes the journal before anything is signed or sent, answers the
engine only when all effects of a step are carried out, and executes blocks at once. It builds them when told to
(`built X`) and begins the next height when told to (`next`), so that a file can say what happens in between.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from tests.support.agreement import CHAIN, FOUR, START, commit_certificate, vote
from tests.support.counting import GENESIS, CountingApplication
from tests.support.scenario_words import KEYS, NAMES, Narrator, Words, shortened

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.effects import (
    Broadcast,
    CancelTimer,
    Commit,
    Effect,
    Event,
    GetValue,
    Received,
    Record,
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
from fondaco.node.simulation import identities
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    ConsensusMessage,
    Proposal,
    RoundCertificate,
    SignedProposal,
    SignedVote,
    Vote,
    VoteKind,
)
from fondaco.protocol.scalars import Hash, Height, Millis, Round

KINDS = {"prevote": VoteKind.PREVOTE, "precommit": VoteKind.PRECOMMIT}
_FLUSHED_FIRST = (Sign, Broadcast, Send, Commit)


def replayed(text: str) -> str:
    """The scenario `text` with the effects that its commands have now. Raises `ValueError` for a bad command."""
    player, written = Player(), []
    for line in text.splitlines():
        if line.startswith("> "):
            written += [line, *(f"  {said}" for said in player.play(line.removeprefix("> ")))]
        elif not line.startswith("  "):
            written.append(line)
    return "\n".join(written) + "\n"


class _Crash(Exception):
    """The host died where the scenario wanted it to."""


class Player:
    """One engine and its host; `play` a command to hear what they do."""

    def __init__(self) -> None:
        self.say = Narrator()
        self.config = EngineConfig()
        self.now = START
        self.refused: set[Hash] = set()
        """Values that the ledger finds invalid."""
        self.chain: list[tuple[Block, CommitCertificate]] = []
        self.disk: list[bytes] = []
        """The journal, synced."""
        self.unsynced: list[bytes] = []
        self.signed: dict[tuple[int, int, int], Vote | Proposal] = {}
        """The sign state. It survives a crash, as each signature's did before it was used."""
        self.trip = ""
        """Where to crash, if anywhere."""
        self.lines: list[str] = []
        """What came of this command."""
        self._boot()

    def play(self, command: str) -> list[str]:
        """Carry out one line. Raises `ValueError` if it makes no sense."""
        words = Words.of(command)
        act = getattr(self, f"_do_{words.verb}", None)
        if act is None:
            raise ValueError(f"there is no command {words.verb!r}: {command}")
        self.lines = []
        try:
            act(words)
        except _Crash as crash:
            told = [*self.lines, f"CRASH {crash}; {len(self.unsynced)} journal entries were not on the disk"]
            self._boot()
            self.lines = told
        return shortened(self.lines) or ["nothing"]

    def _boot(self) -> None:
        self.engine = Engine(CHAIN, self.config, identities.verify, KEYS.get(self.say.us))
        self.timers: dict[Timer, tuple[int, int]] = {}
        self.stale: dict[Timer, int] = {}
        self.wanted: GetValue | None = None
        self.say.heard = None
        self.unsynced.clear()
        self.trip = ""
        self.lines = []

    # Commands about ourselves

    def _do_we(self, words: Words) -> None:
        """`we are bob`; `nobody` has no key at all."""
        self.say.us = words.plain[1]
        self._boot()
        self.lines = ["agreed"]

    def _do_config(self, words: Words) -> None:
        """`config min_block_interval_ms 5000`"""
        self.config = replace(self.config, **{words.plain[0]: int(words.plain[1])})
        self._boot()
        self.lines = ["agreed"]

    def _do_start(self, words: Words) -> None:
        self._tell(self._height())

    def _do_next(self, words: Words) -> None:
        """Begin the height after the one that was committed."""
        self._tell(self._height())

    def _do_sync(self, words: Words) -> None:
        """`sync X by ann bob cyd`: the block came from a peer, with its certificate, and was applied."""
        block = self._block(words.plain[0])
        self.chain.append((block, self._certificate(words)))
        self._tell(self._height())

    def _do_wake(self, words: Words) -> None:
        self._tell(Wake())

    def _do_wait(self, words: Words) -> None:
        """`wait 300 ms`: nothing happens, and time passes."""
        self.now += int(words.plain[0])
        self.lines = [f"the clock shows {self.now - START} ms"]

    def _do_fire(self, words: Words) -> None:
        """`fire propose`: the timer's time is over; `fire stale propose`: an earlier setting of it comes late."""
        timer = Timer[words.plain[-1].upper()]
        if "stale" in words.plain:
            self._tell(TimerFired(timer, self.stale[timer]))
            return
        if timer not in self.timers:
            raise ValueError(f"there is no timer {timer.name.lower()} running")
        generation, due = self.timers.pop(timer)
        self.stale[timer] = generation
        self.now = max(self.now, due)
        self._tell(TimerFired(timer, generation))

    def _do_crash(self, words: Words) -> None:
        """`crash`, now; or at the next `before flush`, `after flush`, `after sign`, whichever is named."""
        if not words.plain:
            raise _Crash("now")
        self.trip = " ".join(words.plain)
        self.lines = ["the next chance will be taken"]

    def _do_lose(self, words: Words) -> None:
        """`lose the journal`: somebody put an old copy of the disk back, all but the sign state."""
        self.disk.clear()
        self.lines = ["gone"]

    def _do_restart(self, words: Words) -> None:
        self._tell(self._height())
        for entry in self.disk:
            self.engine.replay(entry)
        self._carry_out(self.engine.resume(Millis(self.now)))

    def _do_state(self, words: Words) -> None:
        """What the round machine holds."""
        driver, height = self.engine.driver, self.engine.height
        assert driver is not None
        state = driver.state
        pairs = (("locked", state.locked), ("valid", state.valid))
        held = [f"{name} {self.say.name(pair.value)} r{pair.round}" for name, pair in pairs if pair is not None]
        self.lines = [", ".join([f"h{height} r{state.round}", state.step.name.lower(), *held])]

    # Commands about blocks and messages

    def _do_block(self, words: Words) -> None:
        """`block X by ann [on W] [stamped -20000] [invalid]`, the time in ms from now."""
        name, *rest = words.plain
        below = rest[rest.index("on") + 1] if "on" in rest else None
        offset = int(rest[rest.index("stamped") + 1]) if "stamped" in rest else 0
        self._make(name, words.names[0], self.now + offset, below)
        if "invalid" in rest:
            self.refused.add(self.say.blocks[name].header.hash())
        self.lines = [f"exists, for h{self.say.blocks[name].header.height}"]

    def _do_built(self, words: Words) -> None:
        """`built X`: the host has executed the block that it was to build."""
        wanted = self.wanted
        assert wanted is not None, "nobody asked for a block"
        block = self._make(words.plain[0], self.say.us, wanted.time, None)
        self._tell(ValueReady(height=wanted.height, round=wanted.round, block=block))

    def _do_proposal(self, words: Words) -> None:
        """`proposal X r0 from ann`; a block not heard of so far is fresh, and the proposer's."""
        name, who = words.plain[0], words.names[0]
        block = self.say.blocks[name] if name in self.say.blocks else self._make(name, who, self.now, None)
        statement = Proposal(
            height=block.header.height,
            round=Round(words.round),
            value=block.header.hash(),
            valid_round=None if words.valid_round is None else Round(words.valid_round),
        )
        signature = identities.sign(CHAIN, KEYS[who], statement)
        self._hear(SignedProposal(proposal=statement, block=block, proposer=KEYS[who], signature=signature), who)

    def _do_prevote(self, words: Words) -> None:
        """`prevote X r0 from ann bob`: each sends its own."""
        for who in words.names:
            self._hear(self._vote(words, words.verb, words.plain[0], who), who)

    _do_precommit = _do_prevote

    def _do_certificate(self, words: Words) -> None:
        """`certificate prevote X r0 by ann bob cyd`: votes sent together, by the first of them."""
        kind, name = words.plain
        votes = tuple(self._vote(words, kind, name, who) for who in words.names)
        self._hear(RoundCertificate(votes=votes), words.names[0])

    def _do_commit(self, words: Words) -> None:
        """`commit X r0 by ann bob cyd`: a commit certificate, sent by the first of them."""
        self._hear(self._certificate(words), words.names[0])

    def _vote(self, words: Words, kind: str, name: str, who: str) -> SignedVote:
        what = None if name == "nil" else self._block(name).header.hash()
        height = words.height or self._height_of(name)
        places = {"round": words.round, "height": height, "valid_round": words.valid_round}
        if who in NAMES:
            return vote(KINDS[kind], NAMES.index(who), what, **places)  # type: ignore[arg-type]
        statement = vote(KINDS[kind], 0, what, **places).vote  # type: ignore[arg-type]
        signature = identities.sign(CHAIN, KEYS[who], statement)
        return SignedVote(vote=statement, validator=KEYS[who], signature=signature)

    def _certificate(self, words: Words) -> CommitCertificate:
        header = self._block(words.plain[0]).header
        places = [NAMES.index(who) for who in words.names]
        return commit_certificate(header.hash(), *places, height=header.height, round=words.round)

    def _height_of(self, name: str) -> int:
        return int(self.engine.height or 1) if name == "nil" else self._block(name).header.height

    def _block(self, name: str) -> Block:
        if name not in self.say.blocks:
            raise ValueError(f"there is no block {name!r} yet")
        return self.say.blocks[name]

    def _make(self, name: str, who: str, time: int, below: str | None) -> Block:
        """A block on the one named, else on the last that was committed."""
        previous, certificate = self.chain[-1] if self.chain else (None, None)
        if below is not None:
            previous = self._block(below)
            value = previous.header.hash()
            certificate = commit_certificate(value, 0, 1, 2, height=previous.header.height)
        self.say.blocks[name] = CountingApplication(CHAIN, FOUR).prepare(
            height=Height(1 if previous is None else previous.header.height + 1),
            time=Millis(time),
            proposer=KEYS[who],
            previous=GENESIS if previous is None else previous.header.hash(),
            previous_certificate=certificate,
            transactions=(name.encode(),),
        )
        return self.say.blocks[name]

    # The host

    def _height(self) -> StartHeight:
        previous, certificate = self.chain[-1] if self.chain else (None, None)
        below = 0 if previous is None else previous.header.height
        return StartHeight(
            height=Height(below + 1),
            validators=FOUR.advance(below),
            previous=GENESIS if previous is None else previous.header.hash(),
            previous_time=Millis(START - 1_000) if previous is None else previous.header.time,
            previous_certificate=certificate,
            previous_validators=FOUR,
        )

    def _hear(self, message: ConsensusMessage, who: str) -> None:
        self.say.heard = message
        self._tell(Received(message, KEYS[who]))

    def _tell(self, event: Event) -> None:
        self._carry_out(self.engine.step(event, Millis(self.now)))

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        answers: deque[Event] = deque()
        while True:
            for effect in effects:
                if isinstance(effect, _FLUSHED_FIRST):
                    self._flush()
                self.say.height = self.engine.height
                self.lines.append(self.say.effect(effect))
                answer = self._do(effect)
                if answer is not None:
                    answers.append(answer)
            if not answers:
                return
            effects = self.engine.step(answers.popleft(), Millis(self.now))

    def _flush(self) -> None:
        if self.trip == "before flush" and self.unsynced:
            raise _Crash("before the flush")
        flushed = bool(self.unsynced)
        self.disk += self.unsynced
        self.unsynced.clear()
        if self.trip == "after flush" and flushed:
            raise _Crash("after the flush")

    def _do(self, effect: Effect) -> Event | None:
        match effect:
            case Record(entry):
                self.unsynced.append(entry)
            case Sign(statement, block):
                return self._sign(statement, block)
            case SetTimer(timer, generation, delay):
                if timer in self.timers:
                    self.stale[timer] = self.timers[timer][0]
                self.timers[timer] = (generation, self.now + delay)
            case CancelTimer(timer):
                self.stale[timer] = self.timers.pop(timer)[0]
            case GetValue():
                self.wanted = effect
            case Validate(block):
                value = block.header.hash()
                return Validated(height=block.header.height, value=value, valid=value not in self.refused)
            case Commit(block, certificate):
                self.chain.append((block, certificate))
                self.disk.clear()  # the next height has a segment of its own
        return None

    def _sign(self, statement: Vote | Proposal, block: Block | None) -> Event | None:
        """As `node.agreement.sign_state`: never backwards, and at one place the same words only."""
        step = 0 if isinstance(statement, Proposal) else int(statement.kind)
        place = (statement.height, statement.round, step)
        if any(place < other for other in self.signed) or self.signed.get(place, statement) != statement:
            self.lines[-1] = f"sign {self.say.statement(statement)}: REFUSED, the sign state says otherwise"
            return None
        self.signed[place] = statement
        if self.trip == "after sign":
            raise _Crash("after the signature was made")
        key = KEYS[self.say.us]
        signature = identities.sign(CHAIN, key, statement)
        if isinstance(statement, Vote):
            return Signed(SignedVote(vote=statement, validator=key, signature=signature))
        assert block is not None
        return Signed(SignedProposal(proposal=statement, block=block, proposer=key, signature=signature))
