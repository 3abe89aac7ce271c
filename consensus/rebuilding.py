"""Proposals that name their transactions, made whole again before the engine hears of them.

    Announced, Answered --> Rebuilder.step --> Received (for the engine), Ask, Punish

What a proposer proposes was gossiped before, so its peers mostly have it, and 32 bytes say which it is. The name
of a transaction is its leaf under the header's data root: a compact proposal is checked whole, its signature,
header, certificate, evidence and names, before anything is fetched for it, and a fetched transaction is checked
against its name. So nobody can be made to fetch what a validator in its turn did not sign for, and blame is
certain: whoever sent names that do not fit the header, or a transaction that was not asked for. Who merely does
not answer has done nothing that can be proven; the round ends as it does with a silent proposer.

Bounded are the blocks in the making, those begun for one round, the times each is begun, the peers asked for
each, and the blocks kept to answer others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from fondaco.consensus.blocks import check_named, name_of
from fondaco.consensus.driver import PROPOSALS_PER_ROUND
from fondaco.consensus.effects import Punish, Received
from fondaco.protocol import limits
from fondaco.protocol.agreement import Block, CompactProposal, Proposal, SignedProposal
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import Hash, Height, PublicKey, Round

WHOLE_BYTES = 4_096
"""A block with fewer bytes of transactions travels whole: it may be faster than the gossip of what is in it."""
JOBS = 8
"""Blocks in the making."""
STARTS = 4
"""How often one value of a round is begun: its proposal is said again, and links break."""
ROUNDS_REMEMBERED = 64
STATEMENTS = 4
"""Proposals of one value, of several rounds or proposers, that wait for it."""
ASKS = 6
"""Peers that one block is asked of, each once, as one answer holds a whole block: who sent proposals of it, then
others."""
HELD = 6
"""Blocks kept whole to answer others, the newest."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A peer sent a compact proposal."""

    compact: CompactProposal
    sender: PublicKey


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """Ask `peer` for the transactions with these names and say what came: `Answered`, once, in any case."""

    peer: PublicKey
    value: Hash
    names: tuple[Hash, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers `Ask`: what the peer gave of them, in any order; nothing where it did not in time."""

    ask: Ask
    transactions: Sequence[bytes]


Event = Announced | Answered
Effect = Received | Ask | Punish


@dataclass(slots=True)
class Counters:
    """Since the start."""

    compact: int = 0
    """Compact proposals that were worth making whole."""
    named: int = 0
    """Transactions that they named."""
    missing: int = 0
    """Those of them that were not here."""
    asks: int = 0
    given_up: int = 0
    """Blocks that nobody gave in full."""


@dataclass(slots=True, eq=False)
class _Job:
    """One block in the making."""

    statements: list[Announced]
    """The proposals of it, with who sent each."""
    found: dict[Hash, bytes]
    size: int
    """Bytes of transactions found."""
    sources: deque[PublicKey]
    """To be asked yet."""
    asked: set[PublicKey] = field(default_factory=set)
    ask: Ask | None = None
    """The one that is to be answered."""

    @property
    def compact(self) -> CompactProposal:
        return self.statements[0].compact

    @property
    def place(self) -> tuple[Height, Round]:
        return self.compact.proposal.height, self.compact.proposal.round

    def missing(self) -> tuple[Hash, ...]:
        return tuple(name for name in dict.fromkeys(self.compact.names) if name not in self.found)


class _Held:
    """A whole block; where its transactions are is found out when somebody asks for one."""

    def __init__(self, height: Height, names: tuple[Hash, ...], transactions: tuple[bytes, ...]) -> None:
        self.height = height
        self.names = names
        self.transactions = transactions
        self._by_name: dict[Hash, bytes] | None = None

    def find(self, name: Hash) -> bytes | None:
        if self._by_name is None:
            self._by_name = dict(zip(self.names, self.transactions, strict=True))
        return self._by_name.get(name)


class Rebuilder:
    """One node's. `expects` is the engine's word on a proposal, `find` the mempool's on a name; `others` are peers
    that may have what the sender of a proposal does not give, in the order in which to ask."""

    def __init__(
        self,
        expects: Callable[[CompactProposal], bool],
        find: Callable[[Hash], bytes | None],
        others: Callable[[], Iterable[PublicKey]],
        *,
        whole_bytes: int = WHOLE_BYTES,
    ) -> None:
        self.counters = Counters()
        self._expects = expects
        self._find = find
        self._others = others
        self._whole_bytes = whole_bytes
        self._jobs: dict[Hash, _Job] = {}
        self._started: dict[tuple[Height, Round], dict[Hash, int]] = {}
        self._held: dict[Hash, _Held] = {}

    # Giving

    def shorten(self, signed: SignedProposal) -> CompactProposal | SignedProposal:
        """How a proposal travels; its transactions are kept for those who will ask."""
        block = signed.block
        if sum(map(len, block.transactions)) < self._whole_bytes:
            return signed
        held = self._held.get(signed.proposal.value)
        names = tuple(map(name_of, block.transactions)) if held is None else held.names
        self._hold(signed.proposal, names, block.transactions)
        return CompactProposal(
            proposal=signed.proposal,
            header=block.header,
            previous_certificate=block.previous_certificate,
            evidence=block.evidence,
            names=names,
            proposer=signed.proposer,
            signature=signed.signature,
        )

    def give(self, names: Iterable[Hash]) -> list[bytes]:
        """Those of these transactions that are here, as many as one answer may hold."""
        given, size = list[bytes](), 0
        for name in names:
            transaction = self._look_up(name)
            if transaction is not None:
                size += len(transaction)
                if given and size > limits.BLOCK_BYTES:
                    break
                given.append(transaction)
        return given

    # Taking

    def step(self, event: Event) -> list[Effect]:
        """Take one event; what is to be done, in order."""
        match event:
            case Announced():
                try:
                    return self._announced(event)
                except PeerFault as fault:
                    return [Punish(event.sender, fault)]
            case Answered():
                job = self._jobs.get(event.ask.value)
                # Of a block given up, or asked for anew, nothing is awaited any more.
                return [] if job is None or job.ask is not event.ask else self._answered(job, event)
            case _:
                assert_never(event)

    def forget_below(self, height: Height) -> None:
        """The chain stands just below `height`: what was proposed there is kept for those a little behind."""
        for value in [value for value, job in self._jobs.items() if job.place[0] < height]:
            del self._jobs[value]
        for value in [value for value, held in self._held.items() if held.height < height - 1]:
            del self._held[value]
        for place in [place for place in self._started if place[0] < height]:
            del self._started[place]

    def _announced(self, event: Announced) -> list[Effect]:
        compact, value = event.compact, event.compact.proposal.value
        if not self._expects(compact):
            return []
        job = self._jobs.get(value)
        if job is None or _content(compact) != _content(job.compact):
            check_named(compact)
        held = self._held.get(value)
        if held is not None:
            self.counters.compact += 1
            return [_whole(event, held.transactions)]
        if job is not None:
            return self._join(job, event)
        if not self._may_start(compact.proposal):
            return []
        self.counters.compact += 1
        self.counters.named += len(compact.names)
        job = _Job([event], {}, 0, deque([event.sender]))
        missing = self._search(job)
        self.counters.missing += missing
        self._jobs[value] = job
        return self._go_on(job)

    def _join(self, job: _Job, event: Announced) -> list[Effect]:
        """Another proposal of what is in the making, or another peer that has it."""
        known = any(one.compact.proposal == event.compact.proposal for one in job.statements)
        if not known and len(job.statements) < STATEMENTS:
            job.statements.append(event)
        if event.sender not in job.asked and event.sender not in job.sources and len(job.sources) < ASKS:
            job.sources.append(event.sender)
        return []

    def _may_start(self, proposal: Proposal) -> bool:
        """Whoever signs any number of proposals in its turn makes us ask for two of them."""
        place = proposal.height, proposal.round
        started = self._started.setdefault(place, {})
        while len(self._started) > ROUNDS_REMEMBERED:
            del self._started[next(iter(self._started))]
        if proposal.value not in started and len(started) >= PROPOSALS_PER_ROUND:
            return False
        if started.get(proposal.value, 0) >= STARTS:
            return False
        if len(self._jobs) >= JOBS:
            oldest = min(self._jobs, key=lambda value: self._jobs[value].place)
            if self._jobs[oldest].place >= place:
                return False
            del self._jobs[oldest]
        started[proposal.value] = started.get(proposal.value, 0) + 1
        return True

    def _answered(self, job: _Job, event: Answered) -> list[Effect]:
        ask = event.ask
        wanted = dict.fromkeys(ask.names)
        found = {name_of(transaction): transaction for transaction in event.transactions}
        if len(found) != len(event.transactions) or not found.keys() <= wanted.keys():
            job.ask = None
            fault = PeerFault("proposal.answer", "transactions that were not asked for")
            return [Punish(ask.peer, fault), *self._go_on(job)]
        for name, transaction in found.items():
            job.found.setdefault(name, transaction)
        job.size = sum(map(len, job.found.values()))
        self._search(job)
        return self._go_on(job)

    def _search(self, job: _Job) -> int:
        """Look among what is here; how many are still missing."""
        missing = 0
        for name in job.missing():
            transaction = self._look_up(name)
            if transaction is None:
                missing += 1
            else:
                job.found[name] = transaction
                job.size += len(transaction)
        return missing

    def _look_up(self, name: Hash) -> bytes | None:
        transaction = self._find(name)
        if transaction is None:
            found = (held.find(name) for held in self._held.values())
            transaction = next((one for one in found if one is not None), None)
        return transaction

    def _go_on(self, job: _Job) -> list[Effect]:
        """Hand the block over if it is whole; else ask the next peer, or give up."""
        compact, value = job.compact, job.compact.proposal.value
        if job.size > limits.BLOCK_BYTES:
            del self._jobs[value]
            fault = PeerFault("block.size", f"more than {limits.BLOCK_BYTES} bytes of transactions")
            return [Punish(one.sender, fault) for one in job.statements]
        missing = job.missing()
        if not missing:
            del self._jobs[value]
            transactions = tuple(job.found[name] for name in compact.names)
            self._hold(compact.proposal, compact.names, transactions)
            return [_whole(one, transactions) for one in job.statements]
        peer = self._next_source(job)
        if peer is None:
            del self._jobs[value]
            self.counters.given_up += 1
            return []
        job.asked.add(peer)
        self.counters.asks += 1
        job.ask = Ask(peer, value, missing)
        return [job.ask]

    def _next_source(self, job: _Job) -> PublicKey | None:
        if len(job.asked) >= ASKS:
            return None
        if job.sources:
            return job.sources.popleft()
        return next((peer for peer in self._others() if peer not in job.asked), None)

    def _hold(self, proposal: Proposal, names: tuple[Hash, ...], transactions: tuple[bytes, ...]) -> None:
        if proposal.value not in self._held:
            self._held[proposal.value] = _Held(proposal.height, names, transactions)
            while len(self._held) > HELD:
                del self._held[next(iter(self._held))]


def _content(compact: CompactProposal) -> tuple[object, ...]:
    """What makes its block, the header and its hash apart."""
    return compact.names, compact.header, compact.previous_certificate, compact.evidence


def _whole(event: Announced, transactions: tuple[bytes, ...]) -> Received:
    compact = event.compact
    block = Block(
        header=compact.header,
        previous_certificate=compact.previous_certificate,
        evidence=compact.evidence,
        transactions=transactions,
    )
    signed = SignedProposal(
        proposal=compact.proposal, block=block, proposer=compact.proposer, signature=compact.signature
    )
    return Received(signed, event.sender)
