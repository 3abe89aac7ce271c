"""The outside of a transaction: is it for this chain, in time, new, signed, and able to pay its fee?

An envelope that fails here never enters a block; a block that holds one is invalid. A message that is refused
later keeps its place, its fee and its id.
"""

from __future__ import annotations

from collections import OrderedDict

from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.memo import Memo
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.records import UsedIds, key_used_ids, key_used_order
from fondaco.protocol.scalars import ChainId, Hash, MicroCredits, Millis, PublicKey, TxId
from fondaco.protocol.signing import Verify, require, sha256
from fondaco.protocol.transactions import (
    VERSION,
    Faucet,
    Message,
    OpenLease,
    RegisterProvider,
    SignedTransaction,
    Transaction,
    Transfer,
    decode_transaction,
    transaction_id,
)

USED = b"used/"
USED_IDS = b"used-ids/"
USED_ORDER_EXPIRY = b"used-order-expiry/"
BUCKETS_PER_BLOCK = 16
FORGOTTEN_PER_BLOCK = 2 * limits.BLOCK_TRANSACTIONS
"""More than a block can add, so that what is remembered stays bounded under full load."""


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

    def open(self, raw: bytes) -> tuple[TxId, SignedTransaction]:
        """Decode, and check all that does not depend on the ledger.

        Raises `Malformed`, `PeerFault` `signature.bad`, or `Refused` `tx.version`, `tx.chain`, `tx.messages`.
        """
        opened = self._opened.get(raw)
        if opened is None:
            opened = self._open(raw)
            self._opened.put(raw, opened, len(raw))
        return opened

    def _open(self, raw: bytes) -> tuple[TxId, SignedTransaction]:
        signed = decode_transaction(raw)
        digest = sha256(raw)
        known = self._good.get(digest)
        if known is not None:
            return known, signed
        transaction = signed.transaction
        if transaction.version != VERSION:
            raise Refused("tx.version", f"transaction version {transaction.version}, this chain speaks {VERSION}")
        if transaction.chain != self._chain:
            raise Refused("tx.chain", f"signed for chain {transaction.chain}, this is {self._chain}")
        require(self._chain, transaction, transaction.sender, signed.signature, check=self._verify)
        identity = self._good[digest] = transaction_id(transaction)
        if len(self._good) > limits.MEMPOOL_TRANSACTIONS:
            self._good.popitem(last=False)
        return identity, signed


class Room:
    """What a block still has room for: transactions, bytes and work are all bounded."""

    def __init__(self) -> None:
        self._transactions = limits.BLOCK_TRANSACTIONS
        self._bytes = limits.BLOCK_BYTES
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
        case Transfer() | Faucet() | RegisterProvider():
            return 1
        case OpenLease():
            return limits.MESSAGE_WORK + len(message.bids)
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
    if params.has_faucet and all(isinstance(message, Faucet) for message in transaction.messages):
        return MicroCredits(0)
    return MicroCredits(params.fee_base + params.fee_per_byte * size)


def charge(state: State, transaction: Transaction, fee: MicroCredits) -> None:
    """Take fee and tip from the sender. Raises `Refused` `tx.fee`."""
    total = fee + transaction.tip
    if accounts.account_of(state, transaction.sender).credits < total:
        raise Refused("tx.fee", f"the sender cannot pay the fee of {total} ucredit")
    accounts.change(state, transaction.sender, credits=-total)


def reward(state: State, transaction: Transaction, fee: MicroCredits, proposer: PublicKey) -> None:
    """Give what was charged: half the fee and the tip to the proposer, the rest to the community pool."""
    to_pool = fee - fee // 2
    accounts.change(state, proposer, credits=fee + transaction.tip - to_pool)
    accounts.shift(state, pool_credits=to_pool)


def mark_used(state: State, transaction: Transaction, identity: TxId) -> None:
    """Remember an id until it expires. Raises `Refused` `tx.used` for one that is remembered."""
    bucket = transaction.expires_at // limits.TX_ID_BUCKET_MS
    key = USED + bucket.to_bytes(8, "big") + identity
    if state.has_aux(key):
        raise Refused("tx.used", "this transaction has already been included")
    state.put_aux(key, b"")
    before = state.get(key_used_ids(bucket), UsedIds) or UsedIds(count=0, digest=Hash(bytes(32)))
    state.put(key_used_ids(bucket), UsedIds(count=before.count + 1, digest=sha256(before.digest + identity)))


def forget_expired(state: State, *, now: Millis, limit: int = FORGOTTEN_PER_BLOCK) -> None:
    """Drop ids and orders whose time is over, at most `limit` of each."""
    left = limit
    for key, _ in state.scan_before(USED_IDS, now // limits.TX_ID_BUCKET_MS, BUCKETS_PER_BLOCK):
        bucket = int.from_bytes(key[len(USED_IDS) :], "big")
        start, end = (USED + (bucket + step).to_bytes(8, "big") for step in (0, 1))
        ids = state.scan_aux(start, end, left)
        for aux in ids:
            state.put_aux(aux, None)
        left -= len(ids)
        if not left:
            break
        state.put(key, None)
    for key, _ in state.scan_before(USED_ORDER_EXPIRY, now, limit):
        state.put(key, None)
        state.put(key_used_order(key[len(USED_ORDER_EXPIRY) + 8 :]), None)


def as_refusal(fault: PeerFault) -> Refused:
    """A fault in what a user handed in is told to the user."""
    return Refused(fault.code, fault.message)
