"""The ledger behind one port, shaped like ABCI 2.0: the engine knows no market, the ledger knows no rounds.

A header commits to the state AFTER its block, so a block is executed before it is proposed or voted for, on an
overlay. `commit` hands out the overlay of the block that was decided; the others are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from fondaco.consensus import blocks, merkle, merkle_list
from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.ledger import (
    accounts,
    closed,
    deployments,
    due,
    elections,
    envelope,
    governance,
    grants,
    history,
    messages,
    offences,
    stakes,
    trust,
)
from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.start import HEAD, Head, genesis_writes, read_head
from fondaco.consensus.ledger.state import State, Store, Writes
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import PROTOCOL_VERSION, Block, CommitCertificate, Header
from fondaco.protocol.errors import FondacoError, PeerFault, Refused
from fondaco.protocol.events import Event, TransactionApplied
from fondaco.protocol.records import VALIDATORS, ValidatorSets
from fondaco.protocol.scalars import ChainId, Hash, Height, MicroCredits, Millis, PublicKey, TxId
from fondaco.protocol.signing import Verify, sha256, verify
from fondaco.protocol.transactions import Transaction

__all__ = ["Checked", "Execution", "Head", "Ledger", "genesis_writes"]

EXECUTIONS_KEPT = 4
"""Blocks of one height executed ahead of the decision; more rounds than this execute again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A block and what executing it does."""

    block: Block
    events: tuple[Event, ...]
    event_hashes: bytes
    """What stands for each event under the header's events root, one behind the other."""
    writes: Writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A transaction that may enter the mempool."""

    id: TxId
    sender: PublicKey
    fee: MicroCredits
    """Fee and tip: what ranks it."""
    expires_at: Millis


class Ledger:
    """Executes blocks over a store. It never writes: the node stores what `commit` returns, then goes on."""

    def __init__(
        self,
        store: Store,
        chain: ChainId,
        *,
        check: Verify = verify,
        envelopes: envelope.Envelopes | None = None,
    ) -> None:
        """`check` judges signatures. Ledgers of one chain may share `envelopes`, which depend on no state."""
        self._store = store
        self._records = Records()
        self.chain = chain
        self._verify = check
        self._signatures = SignatureCache(chain, check)
        self._envelopes = envelope.Envelopes(chain, check) if envelopes is None else envelopes
        self._executions: dict[Hash, Execution] = {}

    @property
    def head(self) -> Head:
        return read_head(self._store, self._records)

    @property
    def validators(self) -> ValidatorSet:
        """The set that decides the next height."""
        return ValidatorSet(members=self.state().require(VALIDATORS, ValidatorSets).next)

    @property
    def params(self) -> Params:
        return accounts.params_of(self.state())

    def state(self) -> State:
        """A view of the newest state; changes to it go nowhere."""
        return State(self._store, self._records)

    def next_due_moment(self) -> Millis | None:
        """When a block is due though nobody sent a transaction; None if nothing is waiting."""
        state = self.state()
        moments = (due.next_moment(state), governance.next_due_moment(state))
        return min((moment for moment in moments if moment is not None), default=None)

    def check_tx(self, raw: bytes, *, now: Millis) -> Checked:
        """Whether a transaction would be included, and would do something, in a block at `now`.

        Raises `Refused` with the reason, or `PeerFault` for what no honest sender makes.
        """
        head = self.head
        now = Millis(max(now, head.time + 1))  # block time never runs backwards
        identity, signed = self._envelopes.open(raw)
        transaction = signed.transaction
        envelope.check_expiry(transaction, now=now)
        state = self.state()
        envelope.mark_used(state, transaction, identity)
        fee = envelope.fee_of(transaction, len(raw), accounts.params_of(state))
        envelope.charge(state, transaction, fee)
        self._apply_messages(state, transaction, height=Height(head.height + 1), now=now)
        return Checked(
            id=identity,
            sender=transaction.sender,
            fee=MicroCredits(fee + transaction.tip),
            expires_at=transaction.expires_at,
        )

    def check_evidence(self, raw: bytes, *, now: Millis) -> None:
        """Raise `Refused` unless a block at `now` could hold this evidence; it says why."""
        now = Millis(max(now, self.head.time + 1))
        self._convict(self.state(), raw, head=self.head, now=now)

    def prepare_proposal(
        self,
        *,
        time: Millis,
        proposer: PublicKey,
        previous_certificate: CommitCertificate | None,
        candidates: Iterable[bytes],
        evidence: Iterable[bytes] = (),
    ) -> Block:
        """Make the next block out of `candidates` and `evidence`, leaving out what cannot be included now."""
        assert self.head.time < time <= limits.BLOCK_TIME_MS, f"block time {time} after {self.head.time}"
        execution = self._execute(time, proposer, previous_certificate, evidence, candidates, strict=False)
        self._keep(execution)
        return execution.block

    def process_proposal(self, block: Block) -> None:
        """Raise `Refused` unless every rule of the ledger allows this block as the next one."""
        known = self._executions.get(block.header.hash())
        if known is not None and known.block == block:
            return
        head = self.head
        if not head.time < block.header.time <= limits.BLOCK_TIME_MS:
            raise Refused("block.time", f"block time must lie after {head.time}, up to {limits.BLOCK_TIME_MS}")
        if block.header.proposer not in self.validators.index:
            raise Refused("block.proposer", "the proposer is not a validator of this height")
        self._check_previous(block, head)
        try:
            execution = self._execute(
                block.header.time,
                block.header.proposer,
                block.previous_certificate,
                block.evidence,
                block.transactions,
                strict=True,
            )
        except PeerFault as fault:
            raise envelope.as_refusal(fault) from None
        if execution.block.header != block.header:
            wrong = _differences(execution.block.header, block.header)
            raise Refused("block.header", f"executing the block gives another {', '.join(wrong)}")
        self._keep(execution)

    def finalize_block(self, block: Block) -> Execution:
        """What a decided block does. Raises `Refused` where it breaks a rule: agreement itself has failed."""
        self.process_proposal(block)
        return self._executions[block.header.hash()]

    def committed(self) -> None:
        """The store now holds a new block: forget what was executed ahead."""
        self._executions.clear()

    def prove(self, key: bytes) -> tuple[bytes | None, merkle.Proof]:
        """A record of the newest state (None: absent) and its proof against the head's state root."""
        return self.state().prove(key)

    def _check_previous(self, block: Block, head: Head) -> None:
        sets = self.state().require(VALIDATORS, ValidatorSets)
        certificate = block.previous_certificate
        if not sets.last:
            if certificate is not None:
                raise Refused("block.certificate", "the first block has no certificate below it")
            return
        if certificate is None or certificate.height != head.height or certificate.value != head.hash:
            raise Refused("block.certificate", "the block does not show who signed the one below")
        try:
            verify_commit(certificate, ValidatorSet(members=sets.last), self._signatures.holds)
        except PeerFault as fault:
            raise envelope.as_refusal(fault) from None

    def _keep(self, execution: Execution) -> None:
        while len(self._executions) >= EXECUTIONS_KEPT:
            del self._executions[next(iter(self._executions))]
        self._executions[execution.block.header.hash()] = execution

    def _execute(
        self,
        time: Millis,
        proposer: PublicKey,
        previous_certificate: CommitCertificate | None,
        evidence: Iterable[bytes],
        candidates: Iterable[bytes],
        *,
        strict: bool,
    ) -> Execution:
        """Run the block and build its header. `strict` refuses what else is left out.

        In this order: evidence, what ended long ago, what fell due, transactions, and what follows for those
        who validate.
        """
        head, state, events = self.head, self.state(), list[Event]()
        sets, params = state.require(VALIDATORS, ValidatorSets), accounts.params_of(state)
        height = Height(head.height + 1)
        history.turn_page(state, params, height=height, now=time)
        convicting = self._take_evidence(state, evidence, events, head=head, now=time, strict=strict)
        closed.forget(state, now=time, kept_ms=params.closed_kept_ms, limit=params.due_per_block)
        deployments.handle_due(state, events, now=time, limit=params.due_per_block)
        governance.handle_due(state, events, now=time)
        events.extend(stakes.release(state, height=height, now=time))
        envelope.forget_expired(state, now=time)
        events.extend(trust.forget_expired(state, now=time))
        events.extend(grants.forget_expired(state, now=time))
        included = self._take_transactions(
            state,
            candidates,
            events,
            room=envelope.Room(taken=sum(map(len, convicting))),
            now=time,
            proposer=proposer,
            strict=strict,
        )
        elections.note_absences(state, params, previous_certificate, events, now=time)
        elections.rotate(state, params, events, height=height)
        accounts.check_supply(state)
        event_hashes = blocks.event_hashes(events)
        header = Header(
            version=PROTOCOL_VERSION,
            chain=self.chain,
            height=height,
            time=time,
            previous=head.hash,
            validators=ValidatorSet(members=sets.next).hash,
            next_validators=ValidatorSet(members=sets.after).hash,
            params=sha256(codec.encode(accounts.params_of(state))),
            data_root=blocks.data_root(previous_certificate, included),
            evidence_root=blocks.evidence_root(convicting),
            events_root=merkle_list.Tree(event_hashes).root,
            state_root=state.seal(),
            proposer=proposer,
        )
        state.put_aux(HEAD, codec.encode(Head(height=header.height, hash=header.hash(), time=header.time)))
        block = Block(
            header=header, previous_certificate=previous_certificate, evidence=convicting, transactions=included
        )
        return Execution(block=block, events=tuple(events), event_hashes=event_hashes, writes=state.writes)

    def _take_transactions(
        self,
        state: State,
        candidates: Iterable[bytes],
        events: list[Event],
        *,
        room: envelope.Room,
        now: Millis,
        proposer: PublicKey,
        strict: bool,
    ) -> tuple[bytes, ...]:
        """Apply those that may be in the block; what of them is in it."""
        included = list[bytes]()
        height = Height(self.head.height + 1)
        for raw, opened in self._envelopes.open_ahead(state, candidates):
            try:
                if isinstance(opened, FondacoError):
                    raise opened
                identity, signed = opened
                if not room.has(raw, signed.transaction):
                    if strict:
                        raise Refused("block.size", "more transactions, bytes or work than a block may hold")
                    break
                include = partial(
                    self._include,
                    identity,
                    signed.transaction,
                    len(raw),
                    height=height,
                    now=now,
                    proposer=proposer,
                )
                applied = state.attempt(include)
            except (Refused, PeerFault):
                if strict:
                    raise
                continue
            events.extend(applied)
            included.append(raw)
            room.take(raw, signed.transaction)
        return tuple(included)

    def _take_evidence(
        self,
        state: State,
        candidates: Iterable[bytes],
        events: list[Event],
        *,
        head: Head,
        now: Millis,
        strict: bool,
    ) -> tuple[bytes, ...]:
        """Convict whom the evidence proves guilty; what of it is in the block."""
        taken = list[bytes]()
        for raw in candidates:
            if len(taken) >= limits.BLOCK_EVIDENCE:
                if strict:
                    raise Refused("block.evidence", f"at most {limits.BLOCK_EVIDENCE} pieces of evidence a block")
                break
            try:
                events.extend(state.attempt(partial(self._convict, raw=raw, head=head, now=now)))
            except Refused:
                if strict:
                    raise
                continue
            taken.append(raw)
        return tuple(taken)

    def _convict(self, state: State, raw: bytes, *, head: Head, now: Millis) -> list[Event]:
        return offences.convict(state, raw, chain=self.chain, head=head, now=now, holds=self._signatures.holds)

    def _include(
        self,
        identity: TxId,
        transaction: Transaction,
        size: int,
        state: State,
        *,
        height: Height,
        now: Millis,
        proposer: PublicKey,
    ) -> list[Event]:
        """Put one transaction into a block: it pays; its messages take effect together or not at all."""
        envelope.check_expiry(transaction, now=now)
        envelope.mark_used(state, transaction, identity)
        fee = envelope.fee_of(transaction, size, accounts.params_of(state))
        envelope.charge(state, transaction, fee)
        envelope.reward(state, transaction, fee, proposer)
        code, reason = "", ""
        events = list[Event]()
        try:
            events = state.attempt(lambda trial: self._apply_messages(trial, transaction, height=height, now=now))
        except Refused as refusal:
            code, reason = refusal.code, refusal.message[: limits.MEMO_BYTES]
        return [TransactionApplied(id=identity, fee=fee, code=code, message=reason), *events]

    def _apply_messages(
        self, state: State, transaction: Transaction, *, height: Height, now: Millis
    ) -> list[Event]:
        context = Context(
            chain=self.chain,
            state=state,
            events=[],
            sender=transaction.sender,
            height=height,
            now=now,
            verify=self._verify,
            judged=self._envelopes.judged,
        )
        for message in transaction.messages:
            messages.apply(context, message)
        return context.events


def _differences(ours: Header, theirs: Header) -> list[str]:
    return [name for name in Header.__dataclass_fields__ if getattr(ours, name) != getattr(theirs, name)]
