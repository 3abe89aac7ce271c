"""The ledger behind one port, shaped like ABCI 2.0: the engine knows no market, the ledger knows no rounds.

A header commits to the state AFTER its block, so a block is executed before it is proposed or voted for, on an
overlay. `commit` hands out the overlay of the block that was decided; the others are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from fondaco.consensus import blocks, merkle, merkle_list
from fondaco.consensus.certificates import SignatureCache, verify_commit
from fondaco.consensus.ledger import accounts, deployments, envelope, messages
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.start import HEAD, Head, genesis_writes, read_head
from fondaco.consensus.ledger.state import State, Store, Writes
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import PROTOCOL_VERSION, Block, CommitCertificate, Header
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.events import Event, TransactionApplied
from fondaco.protocol.records import VALIDATORS, ValidatorSets
from fondaco.protocol.scalars import ChainId, Hash, Height, MicroCredits, Millis, PublicKey, TxId
from fondaco.protocol.signing import Verify, sha256, verify
from fondaco.protocol.transactions import Transaction

__all__ = ["Checked", "Execution", "Head", "Ledger", "event_leaf", "genesis_writes"]

EXECUTIONS_KEPT = 4
"""Blocks of one height executed ahead of the decision; more rounds than this execute again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A block and what executing it does."""

    block: Block
    events: tuple[Event, ...]
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

    def __init__(self, store: Store, chain: ChainId, *, check: Verify = verify) -> None:
        self._store = store
        self._records = Records()
        self.chain = chain
        self._verify = check
        self._signatures = SignatureCache(chain, check)
        self._envelopes = envelope.Envelopes(chain, check)
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
        return deployments.next_due_moment(self.state())

    def check_tx(self, raw: bytes, *, now: Millis) -> Checked:
        """Whether a transaction would be included, and would do something, in a block at `now`.

        Raises `Refused` with the reason, or `PeerFault` for what no honest sender makes.
        """
        now = Millis(max(now, self.head.time + 1))  # block time never runs backwards
        identity, signed = self._envelopes.open(raw)
        transaction = signed.transaction
        envelope.check_expiry(transaction, now=now)
        state = self.state()
        envelope.mark_used(state, transaction, identity)
        fee = envelope.fee_of(transaction, len(raw), accounts.params_of(state))
        envelope.charge(state, transaction, fee)
        self._apply_messages(state, transaction, now=now)
        return Checked(
            id=identity,
            sender=transaction.sender,
            fee=MicroCredits(fee + transaction.tip),
            expires_at=transaction.expires_at,
        )

    def prepare_proposal(
        self,
        *,
        time: Millis,
        proposer: PublicKey,
        previous_certificate: CommitCertificate | None,
        candidates: Iterable[bytes],
    ) -> Block:
        """Make the next block out of `candidates`, leaving out what cannot be included now."""
        assert self.head.time < time <= limits.BLOCK_TIME_MS, f"block time {time} after {self.head.time}"
        execution = self._execute(time, proposer, previous_certificate, candidates, strict=False)
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
        if block.evidence:
            raise Refused("block.evidence", "this chain does not take evidence yet")
        self._check_previous(block, head)
        try:
            execution = self._execute(
                block.header.time,
                block.header.proposer,
                block.previous_certificate,
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
        candidates: Iterable[bytes],
        *,
        strict: bool,
    ) -> Execution:
        """Run due moments, then transactions, and build the header. `strict` refuses what else is left out."""
        head, state, events = self.head, self.state(), list[Event]()
        sets, params = state.require(VALIDATORS, ValidatorSets), accounts.params_of(state)
        deployments.handle_due(state, events, now=time, limit=params.due_per_block)
        envelope.forget_expired(state, now=time)
        included, room = list[bytes](), envelope.Room()
        for raw in candidates:
            try:
                identity, signed = self._envelopes.open(raw)
                if not room.has(raw, signed.transaction):
                    if strict:
                        raise Refused("block.size", "more transactions, bytes or work than a block may hold")
                    break
                include = partial(
                    self._include, identity, signed.transaction, len(raw), now=time, proposer=proposer
                )
                applied = state.attempt(include)
            except (Refused, PeerFault):
                if strict:
                    raise
                continue
            events.extend(applied)
            included.append(raw)
            room.take(raw, signed.transaction)
        _rotate(state, sets)
        accounts.check_supply(state)
        header = Header(
            version=PROTOCOL_VERSION,
            chain=self.chain,
            height=Height(head.height + 1),
            time=time,
            previous=head.hash,
            validators=ValidatorSet(members=sets.next).hash,
            next_validators=ValidatorSet(members=sets.after).hash,
            params=sha256(codec.encode(params)),
            data_root=blocks.data_root(previous_certificate, included),
            evidence_root=blocks.evidence_root(()),
            events_root=merkle_list.root([event_leaf(event) for event in events]),
            state_root=state.seal(),
            proposer=proposer,
        )
        state.put_aux(HEAD, codec.encode(Head(height=header.height, hash=header.hash(), time=header.time)))
        block = Block(
            header=header,
            previous_certificate=previous_certificate,
            evidence=(),
            transactions=tuple(included),
        )
        return Execution(block=block, events=tuple(events), writes=state.writes)

    def _include(
        self,
        identity: TxId,
        transaction: Transaction,
        size: int,
        state: State,
        *,
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
            events = state.attempt(lambda trial: self._apply_messages(trial, transaction, now=now))
        except Refused as refusal:
            code, reason = refusal.code, refusal.message[: limits.MEMO_BYTES]
        return [TransactionApplied(id=identity, fee=fee, code=code, message=reason), *events]

    def _apply_messages(self, state: State, transaction: Transaction, *, now: Millis) -> list[Event]:
        context = messages.Context(
            chain=self.chain, state=state, events=[], sender=transaction.sender, now=now, verify=self._verify
        )
        for message in transaction.messages:
            messages.apply(context, message)
        return context.events


def event_leaf(event: Event) -> bytes:
    """What a header commits to of an event: all but the words of a refusal.

    Those are for people, and change between releases (and, where a name is quoted, between versions of Python);
    the code is what is agreed.
    """
    if isinstance(event, TransactionApplied):
        event = replace(event, message="")
    return codec.encode(event)


def _rotate(state: State, sets: ValidatorSets) -> None:
    after = ValidatorSet(members=sets.after)
    state.put(
        VALIDATORS,
        ValidatorSets(last=sets.next, next=sets.after, after=after.advance(1).members),
    )


def _differences(ours: Header, theirs: Header) -> list[str]:
    return [name for name in Header.__dataclass_fields__ if getattr(ours, name) != getattr(theirs, name)]
