"""The outside of a transaction: is it for this chain, in time, new, signed, and able to pay its fee?

An envelope that fails here never enters a block; a block that holds one is invalid. A message that is refused
later keeps its place, its fee and its id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from fondaco.consensus.blocks import name_of
from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.memo import Memo
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, PeerFault, Refused
from fondaco.protocol.messages import (
    Alive,
    Burn,
    Faucet,
    Message,
    Mint,
    OpenLease,
    ReplaceLease,
    Retire,
    SetParams,
    Transfer,
    Unjail,
)
from fondaco.protocol.records import UsedIds, key_account, key_used_ids, key_used_order
from fondaco.protocol.scalars import (
    ChainId,
    Hash,
    MicroCredits,
    Millis,
    OrderId,
    PublicKey,
    Signature,
    TxId,
)
from fondaco.protocol.signing import Verify, sha256, signing_bytes
from fondaco.protocol.transactions import (
    VERSION,
    SignedTransaction,
    Transaction,
    decode_transaction,
)

USED = b"used/"
USED_IDS = b"used-ids/"
USED_ORDER_EXPIRY = b"used-order-expiry/"
NO_IDS = UsedIds(count=0, digest=Hash(bytes(32)))
POSITION_BYTES = 4
"""An id is stored with its place in the bucket, so that the bucket's running hash can be checked again."""
BUCKETS_PER_BLOCK = 16
FORGOTTEN_PER_BLOCK = 2 * limits.BLOCK_TRANSACTIONS
"""More than a block can add, so that what is remembered stays bounded under full load."""

Opened = tuple[TxId, SignedTransaction] | Refused | PeerFault
"""A transaction that is good by itself, or why it is not."""
OPENED_AHEAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A transaction that is good by itself, but for its signature."""

    raw: bytes
    """Its full bytes, signature included."""
    digest: Hash
    """Of these bytes; it names them in a proposal."""
    signed: SignedTransaction
    identity: TxId
    statement: bytes | None
    """What its signature has to hold over; None where it is known to."""

    def claim(self, statement: bytes) -> tuple[PublicKey, bytes, Signature]:
        """What `Verify` is asked."""
        return self.signed.transaction.sender, statement, self.signed.signature


def forged() -> PeerFault:
    """The signature does not hold."""
    return PeerFault("signature.bad", "the signature on this Transaction does not hold")


class Envelopes:
    """Opens transactions; a signature that held once is not checked again.

    Of many only ids are remembered, of the newest all that was decoded: whoever can sign can make any number of
    transactions nobody will ever pay for, and what is decoded takes many times the bytes it came in.
    """

    def __init__(self, chain: ChainId, verify: Verify) -> None:
        self._chain = chain
        self._verify = verify
        self._good: OrderedDict[Hash, TxId] = OrderedDict()
        """By the hash of the full bytes, signature included."""
        self._opened = Memo[bytes, tuple[TxId, SignedTransaction]](limits.TRANSACTIONS_DECODED_BYTES)
        """By the full bytes, after every check."""
        self.judged = Memo[OpenLease | ReplaceLease, OrderId](limits.ORDERS_JUDGED_BYTES)
        """Orders and bids that were found good by themselves, which no block changes."""

    def open(self, raw: bytes) -> tuple[TxId, SignedTransaction]:
        """Decode, and check all that does not depend on the ledger.

        Raises `Malformed`, `PeerFault` `signature.bad`, or `Refused` `tx.version`, `tx.chain`, `tx.messages`.
        """
        return self._opened.get(raw) or self._open(raw)

    def open_ahead(self, state: State, candidates: Iterable[bytes]) -> Iterator[tuple[bytes, Opened]]:
        """Each with its bytes; some are opened at a time, and what they will surely read is read at once."""
        remaining = iter(candidates)
        while batch := list(islice(remaining, OPENED_AHEAD)):
            opened = list(map(self._try, batch))
            _prefetch(state, [one for one in opened if not isinstance(one, FondacoError)])
            yield from zip(batch, opened, strict=True)

    def _try(self, raw: bytes) -> Opened:
        try:
            return self.open(raw)
        except (Refused, PeerFault) as fault:
            return fault

    def read(self, raw: bytes) -> Read:
        """Decode, and check all but the signature. Raises as `open` does."""
        signed = decode_transaction(raw)
        digest = name_of(raw)
        known = self._good.get(digest)
        if known is not None:
            return Read(raw=raw, digest=digest, signed=signed, identity=known, statement=None)
        transaction = signed.transaction
        if transaction.version != VERSION:
            raise Refused("tx.version", f"transaction version {transaction.version}, this chain speaks {VERSION}")
        if transaction.chain != self._chain:
            raise Refused("tx.chain", f"signed for chain {transaction.chain}, this is {self._chain}")
        statement = signing_bytes(self._chain, transaction)
        identity = TxId(sha256(statement))
        return Read(raw=raw, digest=digest, signed=signed, identity=identity, statement=statement)

    def holds(self, raw: bytes) -> bool:
        """Whether its signature is known to hold."""
        return name_of(raw) in self._good

    def remember(self, read: Read) -> tuple[TxId, SignedTransaction]:
        """Take it that its signature holds: somebody has checked that, in another thread perhaps."""
        self._good[read.digest] = read.identity
        if len(self._good) > limits.MEMPOOL_TRANSACTIONS:
            self._good.popitem(last=False)
        opened = read.identity, read.signed
        self._opened.put(read.raw, opened, len(read.raw))
        return opened

    def _open(self, raw: bytes) -> tuple[TxId, SignedTransaction]:
        read = self.read(raw)
        if read.statement is not None and not self._verify(*read.claim(read.statement)):
            raise forged()
        return self.remember(read)


def _prefetch(state: State, opened: Iterable[tuple[TxId, SignedTransaction]]) -> None:
    """Read at once what these transactions will surely ask for: their ids, who pays, and who is paid."""
    keys, ids = set[bytes](), list[bytes]()
    for identity, signed in opened:
        transaction = signed.transaction
        ids.append(_key_used(bucket_of(transaction), identity))
        keys.add(key_account(transaction.sender))
        keys.update(key_account(message.to) for message in transaction.messages if isinstance(message, Transfer))
    state.prefetch(keys, aux=ids)


class Room:
    """What a block still has room for: transactions, bytes and work are all bounded."""

    def __init__(self, *, taken: int = 0) -> None:
        self._transactions = limits.BLOCK_TRANSACTIONS
        self._bytes = limits.BLOCK_BYTES - taken
        self._work = limits.BLOCK_WORK

    def has(self, raw: bytes, transaction: Transaction) -> bool:
        return self._transactions > 0 and len(raw) <= self._bytes and work_of(transaction) <= self._work

    def take(self, raw: bytes, transaction: Transaction) -> None:
        self._transactions -= 1
        self._bytes -= len(raw)
        self._work -= work_of(transaction)


def work_of(transaction: Transaction) -> int:
    """About how much time a transaction takes to apply, told from its messages alone."""
    return 1 + sum(map(_message_work, transaction.messages))


def _message_work(message: Message) -> int:
    match message:
        case Transfer() | Faucet() | Alive() | Unjail() | SetParams() | Mint() | Burn():
            return 1
        case OpenLease():
            return limits.MESSAGE_WORK + len(message.bids)
        case ReplaceLease():
            return limits.MESSAGE_WORK + 1
        case Retire():
            return limits.MESSAGE_WORK * limits.RETIREMENT_LEASES
        case _:
            return limits.MESSAGE_WORK


def check_expiry(transaction: Transaction, *, now: Millis) -> None:
    """Raise `Refused` `tx.expired` or `tx.expiry` unless it may be included at block time `now`."""
    if transaction.expires_at < now:
        raise Refused("tx.expired", f"it expired {now - transaction.expires_at} ms before block time")
    if transaction.expires_at > now + limits.TX_LIFE_MS:
        raise Refused("tx.expiry", f"it may expire at most {limits.TX_LIFE_MS} ms after block time")


def fee_of(transaction: Transaction, size: int, params: Params) -> MicroCredits:
    """What inclusion costs, tip apart. Asking a faucet, where there is one, is free, or nobody could begin."""
    if params.has_faucet and {Faucet}.issuperset(map(type, transaction.messages)):
        return MicroCredits(0)
    return MicroCredits(params.fee_base + params.fee_per_byte * size)


def charge(state: State, transaction: Transaction, fee: MicroCredits) -> None:
    """Take fee and tip from the sender. Raises `Refused` `tx.fee`."""
    total = fee + transaction.tip
    if accounts.account_of(state, transaction.sender).credits < total:
        raise cannot_pay(total)
    accounts.change(state, transaction.sender, credits=-total)


def cannot_pay(total: int) -> Refused:
    """Fee and tip are more than the sender has."""
    return Refused("tx.fee", f"the sender cannot pay the fee of {total} ucredit")


def reward(state: State, transaction: Transaction, fee: MicroCredits, proposer: PublicKey) -> None:
    """Give what was charged: half the fee and the tip to the proposer, the rest to the community pool."""
    to_pool = fee - fee // 2
    accounts.change(state, proposer, credits=fee + transaction.tip - to_pool, to_pool=to_pool)


def check_unused(state: State, transaction: Transaction, identity: TxId) -> None:
    """Raise `Refused` `tx.used` for an id that is remembered."""
    if state.has_aux(_key_used(bucket_of(transaction), identity)):
        raise Refused("tx.used", "this transaction has already been included")


def mark_used(state: State, transaction: Transaction, identity: TxId) -> None:
    """Remember an id until it expires. Raises `Refused` `tx.used` for one that is remembered."""
    bucket = bucket_of(transaction)
    check_unused(state, transaction, identity)
    before = state.get(key_used_ids(bucket), UsedIds) or NO_IDS
    state.put(key_used_ids(bucket), place(state, bucket, identity, before))


def place(state: State, bucket: int, identity: TxId, before: UsedIds) -> UsedIds:
    """Store an id behind those that its bucket has; what the bucket's record says from then on."""
    state.put_aux(_key_used(bucket, identity), before.count.to_bytes(POSITION_BYTES, "big"))
    return UsedIds(count=before.count + 1, digest=sha256(before.digest + identity))


def bucket_of(transaction: Transaction) -> int:
    """Which ids it is remembered among."""
    return transaction.expires_at // limits.TX_ID_BUCKET_MS


def _key_used(bucket: int, identity: TxId) -> bytes:
    return USED + bucket.to_bytes(8, "big") + identity


def first_live_bucket(now: Millis) -> int:
    """Ids in buckets before this one have expired: they are only still to be forgotten."""
    return now // limits.TX_ID_BUCKET_MS


def forget_expired(state: State, *, now: Millis, limit: int = FORGOTTEN_PER_BLOCK) -> None:
    """Drop ids and orders whose time is over, at most `limit` of each."""
    left = limit
    for key, _ in state.scan_before(USED_IDS, first_live_bucket(now), BUCKETS_PER_BLOCK):
        if not left:
            break
        # By what the record counts: a node that began with a snapshot never had these ids.
        before, prefix = state.require(key, UsedIds), USED + key[len(USED_IDS) :]
        dropped = min(left, before.count)
        for aux, _ in state.scan_aux(prefix, dropped):
            state.put_aux(aux, None)
        left -= dropped
        rest = before.count - dropped
        state.put(key, replace(before, count=rest) if rest else None)
    for key, _ in state.scan_before(USED_ORDER_EXPIRY, now, limit):
        state.put(key, None)
        state.put(key_used_order(key[len(USED_ORDER_EXPIRY) + 8 :]), None)


def as_refusal(fault: PeerFault) -> Refused:
    """A fault in what a user handed in is told to the user."""
    return Refused(fault.code, fault.message)
