"""The transactions that wait, found by account, by what they are about, by when they expire, and by what they pay.

What a transaction offers beyond its fee ranks it: the fee follows from its size and says nothing, the tip is a bid
for room, and room is bytes. Those that ask a faucet pay nothing and come last.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from fondaco.consensus.ledger import transfers
from fondaco.consensus.ledger.application import Checked
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import (
    Activate,
    CloseDeployment,
    CloseLease,
    Deposit,
    Message,
    OpenLease,
    Reclaim,
    ReplaceLease,
    Transfer,
    UpdateManifest,
    Withdraw,
)
from fondaco.protocol.records import key_deployment, key_lease, key_provider
from fondaco.protocol.scalars import Hash, Height, MicroCredits, Millis, PublicKey, TxId
from fondaco.protocol.transactions import Transaction

K = TypeVar("K", bytes, int)
EXPIRY_BUCKET_MS = 1_000


@dataclass(slots=True, kw_only=True, eq=False)
class Pending:
    """One that waits."""

    raw: bytes
    digest: Hash
    checked: Checked
    rank: int
    arrival: int
    checked_at: Height
    """The head it was last found good at."""
    spends: int
    """Micro-credits: fee and tip, and what its transfers move."""
    is_simple: bool
    """Transfers alone: good for as long as the sender can pay."""
    about: tuple[bytes, ...]
    """Keys of records that decide whether it still does something."""


def pending_of(
    raw: bytes, digest: Hash, transaction: Transaction, checked: Checked, *, arrival: int, head: Height
) -> Pending:
    messages = transaction.messages
    moved = sum(message.amount for message in messages if isinstance(message, Transfer))
    is_simple = transfers.are_all(transaction)
    return Pending(
        raw=raw,
        digest=digest,
        checked=checked,
        rank=rank_of(checked.fee, transaction.tip, len(raw)),
        arrival=arrival,
        checked_at=head,
        spends=checked.fee + moved,
        is_simple=is_simple,
        about=() if is_simple else tuple({key for message in messages for key in _about(message)}),
    )


def rank_of(fee: MicroCredits, tip: MicroCredits, size: int) -> int:
    """More is better: the tip in thousandths of a ucredit a byte; -1 for what is free. `fee` counts the tip."""
    return -1 if fee == 0 else tip * 1_000 // size


def _about(message: Message) -> Iterator[bytes]:
    """What it names that a block may change; nothing for those that are looked at in turn anyway."""
    match message:
        case Deposit() | CloseDeployment() | UpdateManifest():
            yield key_deployment(message.deployment)
        case Withdraw() | Reclaim() | CloseLease():
            yield key_lease(message.lease)
        case Activate():
            yield key_lease(message.receipt.receipt.lease)
        case OpenLease():
            yield from (key_provider(bid.bid.provider) for bid in message.bids)
        case ReplaceLease():
            yield from (key_deployment(message.deployment), key_provider(message.bid.bid.provider))
        case _:
            return


@dataclass(slots=True)
class Account:
    """What waits of one sender, in order of arrival."""

    pending: dict[TxId, Pending] = field(default_factory=dict)
    bytes: int = 0
    fees: int = 0
    spends: int = 0


class Waiting:
    """Grows and shrinks; bounds are kept by `make_room`, which the owner asks first."""

    def __init__(self) -> None:
        self.by_id: dict[TxId, Pending] = {}
        self.by_digest: dict[Hash, TxId] = {}
        self.accounts: dict[PublicKey, Account] = {}
        self.turning: dict[TxId, None] = {}
        """Those that are not simple, the one that was looked at longest ago first."""
        self.bytes = 0
        self._about: dict[bytes, dict[TxId, None]] = {}
        self._expiring: dict[int, dict[TxId, None]] = {}
        self._cheapest: list[tuple[int, int, TxId]] = []
        """A heap of (rank, arrival, id); those that have gone are skipped."""

    def __len__(self) -> int:
        return len(self.by_id)

    def add(self, pending: Pending) -> None:
        checked = pending.checked
        assert checked.id not in self.by_id, "what waits is asked for first"
        self.by_id[checked.id] = pending
        self.by_digest[pending.digest] = checked.id
        self.bytes += len(pending.raw)
        account = self.accounts.setdefault(checked.sender, Account())
        account.pending[checked.id] = pending
        account.bytes += len(pending.raw)
        account.fees += checked.fee
        account.spends += pending.spends
        if not pending.is_simple:
            self.turning[checked.id] = None
        for key in pending.about:
            self._about.setdefault(key, {})[checked.id] = None
        self._expiring.setdefault(checked.expires_at // EXPIRY_BUCKET_MS, {})[checked.id] = None
        heapq.heappush(self._cheapest, (pending.rank, pending.arrival, checked.id))

    def drop(self, identity: TxId) -> Pending:
        pending = self.by_id.pop(identity)
        checked = pending.checked
        del self.by_digest[pending.digest]
        self.bytes -= len(pending.raw)
        account = self.accounts[checked.sender]
        del account.pending[identity]
        account.bytes -= len(pending.raw)
        account.fees -= checked.fee
        account.spends -= pending.spends
        if not account.pending:
            del self.accounts[checked.sender]
        self.turning.pop(identity, None)
        for key in pending.about:
            _remove(self._about, key, identity)
        _remove(self._expiring, checked.expires_at // EXPIRY_BUCKET_MS, identity)
        if len(self._cheapest) > 2 * len(self.by_id) + limits.MEMPOOL_SWEEP:
            self._cheapest = [(one.rank, one.arrival, one.checked.id) for one in self.by_id.values()]
            heapq.heapify(self._cheapest)
        return pending

    def about(self, key: bytes) -> list[TxId]:
        """Those that a change of this record may decide."""
        return list(self._about.get(key, ()))

    def expired(self, now: Millis) -> list[TxId]:
        """Those that no block from `now` on may hold."""
        last = now // EXPIRY_BUCKET_MS
        return [
            identity
            for bucket in [bucket for bucket in self._expiring if bucket <= last]
            for identity in self._expiring[bucket]
            if self.by_id[identity].checked.expires_at < now
        ]

    def check_quota(self, sender: PublicKey, size: int) -> None:
        """Raise `Refused` `mempool.quota` where the sender has as many waiting as one may."""
        account = self.accounts.get(sender)
        if account is None:
            return
        if (
            len(account.pending) >= limits.MEMPOOL_ACCOUNT_TRANSACTIONS
            or account.bytes + size > limits.MEMPOOL_ACCOUNT_BYTES
        ):
            raise Refused(
                "mempool.quota",
                f"{len(account.pending)} transactions of this account wait here already",
                hint="send more when some of them are in a block",
            )

    def make_room(self, rank: int, size: int) -> list[TxId]:
        """Whom to put out for one of this rank and size, the cheapest and oldest first; none is put out here.

        Raises `Refused` `mempool.full` where those that rank lower do not leave enough room.
        """
        victims = list[tuple[int, int, TxId]]()
        count, total = len(self.by_id), self.bytes
        while count >= limits.MEMPOOL_TRANSACTIONS or total + size > limits.MEMPOOL_BYTES:
            found = self._pop_cheapest(rank)
            if found is None:
                break
            victims.append(found)
            count, total = count - 1, total - len(self.by_id[found[2]].raw)
        for victim in victims:
            heapq.heappush(self._cheapest, victim)
        if count >= limits.MEMPOOL_TRANSACTIONS or total + size > limits.MEMPOOL_BYTES:
            raise Refused(
                "mempool.full",
                "this node has no room for more transactions",
                hint="try again shortly, or offer a higher tip",
            )
        return [identity for _, _, identity in victims]

    def in_turn(self) -> Iterator[Pending]:
        """The first of every account, then the second of every account, and so on.

        Among equals the higher rank comes first, then who came first. What changes meanwhile does not matter.
        """
        queues = [list(account.pending.values()) for account in self.accounts.values()]
        place = 0
        while queues:
            yield from sorted((queue[place] for queue in queues), key=lambda one: (-one.rank, one.arrival))
            place += 1
            queues = [queue for queue in queues if len(queue) > place]

    def _pop_cheapest(self, rank: int) -> tuple[int, int, TxId] | None:
        """The cheapest of those below `rank`, taken out of the heap."""
        while self._cheapest and self._cheapest[0][0] < rank:
            found = heapq.heappop(self._cheapest)
            pending = self.by_id.get(found[2])
            if pending is not None and pending.arrival == found[1]:
                return found
        return None


def _remove(index: dict[K, dict[TxId, None]], key: K, identity: TxId) -> None:
    del index[key][identity]
    if not index[key]:
        del index[key]
