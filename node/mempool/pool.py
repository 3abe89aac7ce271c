"""Admission, the order in which blocks are offered what waits, and what a block changes of it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import trio

from fondaco.consensus.blocks import name_of
from fondaco.consensus.ledger import accounts, envelope, transfers
from fondaco.consensus.ledger.application import Checked, Execution
from fondaco.consensus.ledger.envelope import Read
from fondaco.consensus.ledger.state import RECORD
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.mempool.known import FOR_GOOD, Known
from fondaco.node.mempool.waiting import Pending, Waiting, pending_of, rank_of
from fondaco.node.news import News
from fondaco.node.refusals import Refusals
from fondaco.node.verifying import Verifier
from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.events import TransactionApplied
from fondaco.protocol.records import PARAMS, Account, key_account
from fondaco.protocol.scalars import Hash, MicroCredits, Millis, PublicKey, TxId
from fondaco.protocol.transactions import Transaction

Outcome = TxId | Refused | PeerFault
"""A transaction that waits now, or did already; or why it does not."""
ACCOUNTS = RECORD + key_account(PublicKey(b""))


class Mempool:
    """The ledger decides what may be in it; see the package."""

    def __init__(self, chain: Chain, verifier: Verifier | None = None) -> None:
        self._chain = chain
        self.verifier = Verifier(chain.envelopes) if verifier is None else verifier
        self._waiting = Waiting()
        self.known = Known()
        self._head = chain.head
        self._state = chain.ledger.state()
        self._arrivals = 0
        self._doubted: dict[TxId, None] = {}
        """To be checked again, as a block changed what they depend on; in the order in which doubts came up."""
        self.later: deque[bytes] = deque()
        """Refused by our state, perhaps because it lags behind the sender's: tried once more after a block."""
        self.news = News()
        """Rings when a transaction came in."""
        self.refused = 0
        """Transactions that were dropped after a block made them impossible."""
        self.evicted = 0
        """Transactions that made room for others which pay more."""
        self.rechecked = 0
        self.refusals = Refusals()
        """Those that did not come in, by code; what is known already is in `known.repeated`."""
        chain.listeners.append(self._after_commit)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes of all that wait."""
        return self._waiting.bytes

    def __contains__(self, identity: TxId) -> bool:
        return identity in self._waiting.by_id

    def named(self, name: Hash) -> bytes | None:
        """The transaction that a proposal calls so, if it waits here."""
        identity = self._waiting.by_digest.get(name)
        return None if identity is None else self._waiting.by_id[identity].raw

    # Admission

    def add(self, raw: bytes) -> TxId:
        """Take a transaction in, checking it here and now.

        Raises `Refused` with the ledger's reason, `mempool.full` or `mempool.quota`; or `PeerFault`.
        """
        found = self._look(raw)
        if isinstance(found, Read):
            found = self._admit(found, signed=self.verifier.holds(found))
            self.news.ring()
        return found

    async def add_many(self, raws: Sequence[bytes], *, from_peer: bool = False) -> list[Outcome]:
        """Take in what may be; what became of each.

        What comes `from_peer` and is refused by our state is tried once more after the next block.
        """
        outcomes = list[Outcome]()
        for first in range(0, len(raws), limits.VERIFIED_AT_ONCE):
            outcomes += await self._add_some(raws[first : first + limits.VERIFIED_AT_ONCE], from_peer=from_peer)
            await trio.lowlevel.checkpoint()
        return outcomes

    async def _add_some(self, raws: Sequence[bytes], *, from_peer: bool) -> list[Outcome]:
        looked = [(raw, self._try_look(raw)) for raw in raws]
        good = iter(await self.verifier.hold([one for _, one in looked if isinstance(one, Read)]))
        outcomes = list[Outcome]()
        before = self._arrivals
        for raw, one in looked:
            outcome = self._try_admit(one, signed=next(good)) if isinstance(one, Read) else one
            if from_peer and isinstance(outcome, Refused):
                self._try_later(raw, outcome)
            outcomes.append(outcome)
        if self._arrivals > before:
            self.news.ring()
        return outcomes

    def _try_look(self, raw: bytes) -> Outcome | Read:
        try:
            return self._look(raw)
        except (PeerFault, Refused) as error:
            return error

    def _try_admit(self, read: Read, *, signed: bool) -> Outcome:
        try:
            return self._admit(read, signed=signed)
        except (PeerFault, Refused) as error:
            return error

    def _look(self, raw: bytes) -> TxId | Read:
        """All that is cheap to find out, in the order of what it takes; the signature is not among it."""
        if len(raw) > limits.TX_BYTES:
            raise Malformed("codec.size", f"{len(raw)} bytes, at most {limits.TX_BYTES} allowed")
        digest = name_of(raw)
        waiting = self._waiting.by_digest.get(digest)
        if waiting is not None:
            return waiting
        self.known.check(digest, self._head.height)
        with self._remembering(digest):
            read = self._chain.envelopes.read(raw)
            transaction = read.signed.transaction
            envelope.check_expiry(transaction, now=self._now())
            fee = self._fee(transaction, len(raw))
            self._check_means(transaction.sender, len(raw), fee=fee, tip=transaction.tip)
        return read

    def _check_means(self, sender: PublicKey, size: int, *, fee: MicroCredits, tip: MicroCredits) -> None:
        """Raise `Refused` unless there is room, and the sender can pay the fees of all it has waiting here."""
        self._waiting.check_quota(sender, size)
        account = self._waiting.accounts.get(sender)
        owed = fee + tip + (0 if account is None else account.fees)
        if accounts.account_of(self._state, sender).credits < owed:
            raise Refused("tx.fee", f"the sender cannot pay {owed} ucredit, the fees of all it has waiting")
        self._waiting.make_room(rank_of(MicroCredits(fee + tip), tip, size), size)

    def _admit(self, read: Read, *, signed: bool) -> TxId:
        """Take in one that was looked at; much may have happened since."""
        transaction = read.signed.transaction
        with self._remembering(read.digest):
            if not signed:  # before all else: the id says nothing of the signature
                raise envelope.forged()
            if read.identity in self._waiting.by_id:
                return read.identity
            self._waiting.check_quota(transaction.sender, len(read.raw))
            checked = self._check(read.raw, read.identity, transaction)
        pending = pending_of(
            read.raw, read.digest, transaction, checked, arrival=self._arrivals, head=self._head.height
        )
        for victim in self._waiting.make_room(pending.rank, len(read.raw)):
            self.evicted += 1
            self._drop(victim)
        self._waiting.add(pending)
        self._arrivals += 1
        return checked.id

    def _check(self, raw: bytes, identity: TxId, transaction: Transaction) -> Checked:
        """As the ledger's `check_tx`, at less cost where that is possible."""
        now = self._now()
        if not transfers.are_all(transaction):
            return self._chain.ledger.check_tx(raw, now=now)
        envelope.check_expiry(transaction, now=now)
        fee = self._fee(transaction, len(raw))
        transfers.check(self._state, transaction, identity, fee)
        return Checked(
            id=identity,
            sender=transaction.sender,
            fee=MicroCredits(fee + transaction.tip),
            expires_at=transaction.expires_at,
        )

    def _fee(self, transaction: Transaction, size: int) -> MicroCredits:
        return envelope.fee_of(transaction, size, accounts.params_of(self._state))

    @contextlib.contextmanager
    def _remembering(self, digest: Hash) -> Iterator[None]:
        """What is refused within is not looked at again; that there is no room is no fault of the transaction."""
        try:
            yield
        except (PeerFault, Refused) as error:
            self.refusals[error.code] += 1
            if not error.code.startswith("mempool."):
                self.known.refused(digest, error, self._head.height)
            raise

    def _try_later(self, raw: bytes, refusal: Refused) -> None:
        full = len(self.later) >= limits.MEMPOOL_LATER
        if not full and refusal.code not in FOR_GOOD and not refusal.code.startswith("mempool."):
            self.later.append(raw)

    # Proposing

    def candidates(self) -> Iterator[bytes]:
        """What the next block may hold, in the order of `Waiting.in_turn`."""
        for pending in self._waiting.in_turn():
            identity = pending.checked.id
            if identity not in self._waiting.by_id:
                continue
            stale = not pending.is_simple and pending.checked_at < self._head.height
            if (stale or identity in self._doubted) and not self._recheck(identity):
                continue
            yield pending.raw

    # After a block

    def _after_commit(self, execution: Execution) -> None:
        self._head, self._state = self._chain.head, self._chain.ledger.state()
        for raw in execution.block.transactions:
            self.known.included(name_of(raw))
        for event in execution.events:
            if isinstance(event, TransactionApplied) and event.id in self._waiting.by_id:
                self._drop(event.id)
        for identity in self._waiting.expired(Millis(self._head.time + 1)):
            self.refused += 1
            self._drop(identity)
        if self._waiting.by_id:
            self._doubt(execution.writes)
        budget = limits.MEMPOOL_RECHECKS - self._retry()
        for identity in list(islice(dict.fromkeys(chain(self._turning(), self._doubted)), budget)):
            self._recheck(identity)

    def _doubt(self, writes: Iterable[bytes]) -> None:
        """Note whom these changed records may concern."""
        waiting, doubted = self._waiting, list[TxId]()
        for key in writes:
            if not key.startswith(RECORD):
                continue
            if key.startswith(ACCOUNTS):
                doubted += self._poor(PublicKey(key[len(ACCOUNTS) :]))
            elif key == RECORD + PARAMS:
                doubted += waiting.by_id
            else:
                doubted += waiting.about(key[len(RECORD) :])
        self._doubted |= dict.fromkeys(doubted)

    def _poor(self, owner: PublicKey) -> Iterable[TxId]:
        """What waits of an account that no longer has enough for all of it."""
        account = self._waiting.accounts.get(owner)
        if account is None:
            return ()
        record = self._state.get(key_account(owner), Account)
        return account.pending if record is None or record.credits < account.spends else ()

    def _turning(self) -> list[TxId]:
        """The next few of those that depend on more than money; they go to the end of the row."""
        turning = self._waiting.turning
        chosen = list(islice(turning, limits.MEMPOOL_SWEEP))
        for identity in chosen:
            turning[identity] = turning.pop(identity)
        return chosen

    def _retry(self) -> int:
        """Give what came too early another try; how many."""
        tries = min(len(self.later), limits.MEMPOOL_RECHECKS // 2)
        for raw in [self.later.popleft() for _ in range(tries)]:
            with contextlib.suppress(Refused, PeerFault):
                self.add(raw)
        return tries

    def _recheck(self, identity: TxId) -> bool:
        """Whether it may still be in a block; if not it is dropped."""
        pending = self._waiting.by_id[identity]
        self._doubted.pop(identity, None)
        self.rechecked += 1
        try:
            identity, signed = self._chain.envelopes.open(pending.raw)
            self._check(pending.raw, identity, signed.transaction)
        except (Refused, PeerFault) as error:
            self.known.refused(pending.digest, error, self._head.height)
            self.refused += 1
            self._drop(identity)
            return False
        pending.checked_at = self._head.height
        return True

    def _drop(self, identity: TxId) -> Pending:
        self._doubted.pop(identity, None)
        return self._waiting.drop(identity)

    def _now(self) -> Millis:
        """Block time does not run backwards, though clocks may."""
        return Millis(max(clock.now(), self._head.time + 1))
