"""The outside of a transaction: is it for this chain, in time, new, signed, and able to pay its fee?

An envelope that fails here never enters a block; a block that holds one is invalid. A message that is refused
later keeps its place, its fee and its id.
"""

from __future__ import annotations

from collections import OrderedDict

from fondaco.consensus.ledger import accounts
from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.records import UsedIds, key_used_ids
from fondaco.protocol.scalars import ChainId, Hash, MicroCredits, Millis, PublicKey, TxId
from fondaco.protocol.signing import Verify, require, sha256
from fondaco.protocol.transactions import (
    VERSION,
    Faucet,
    SignedTransaction,
    Transaction,
    decode_transaction,
    transaction_id,
)

USED = b"used/"


class Envelopes:
    """Opens transactions; a signature that held once is not checked again."""

    def __init__(self, chain: ChainId, verify: Verify) -> None:
        self._chain = chain
        self._verify = verify
        self._opened: OrderedDict[Hash, tuple[TxId, SignedTransaction]] = OrderedDict()
        """By the hash of the full bytes, signature included."""

    def open(self, raw: bytes) -> tuple[TxId, SignedTransaction]:
        """Decode, and check all that does not depend on the ledger.

        Raises `Malformed`, `PeerFault` `signature.bad`, or `Refused` `tx.version`, `tx.chain`.
        """
        digest = sha256(raw)
        known = self._opened.get(digest)
        if known is not None:
            return known
        signed = decode_transaction(raw)
        transaction = signed.transaction
        if transaction.version != VERSION:
            raise Refused("tx.version", f"transaction version {transaction.version}, this chain speaks {VERSION}")
        if transaction.chain != self._chain:
            raise Refused("tx.chain", f"signed for chain {transaction.chain}, this is {self._chain}")
        require(self._chain, transaction, transaction.sender, signed.signature, check=self._verify)
        opened = (transaction_id(transaction), signed)
        self._opened[digest] = opened
        if len(self._opened) > limits.MEMPOOL_TRANSACTIONS:
            self._opened.popitem(last=False)
        return opened


def check_expiry(transaction: Transaction, *, now: Millis) -> None:
    """Raise `Refused` `tx.expired` or `tx.expiry` unless it may be included at block time `now`."""
    if transaction.expires_at < now:
        raise Refused("tx.expired", f"it expired {now - transaction.expires_at} ms before block time")
    if transaction.expires_at > now + limits.TX_LIFE_MS:
        raise Refused("tx.expiry", f"it may expire at most {limits.TX_LIFE_MS} ms after block time")


def fee_of(transaction: Transaction, size: int, params: Params) -> MicroCredits:
    """What inclusion costs, tip apart. Asking the faucet is free, or nobody could begin."""
    if all(isinstance(message, Faucet) for message in transaction.messages):
        return MicroCredits(0)
    return MicroCredits(params.fee_base + params.fee_per_byte * size)


def charge(state: State, transaction: Transaction, fee: MicroCredits, proposer: PublicKey) -> None:
    """Take fee and tip: half the fee and the tip to the proposer, the rest to the community pool."""
    total = fee + transaction.tip
    if accounts.account_of(state, transaction.sender).credits < total:
        raise Refused("tx.fee", f"the sender cannot pay the fee of {total} ucredit")
    to_pool = fee - fee // 2
    accounts.change(state, transaction.sender, credits=-total)
    accounts.change(state, proposer, credits=total - to_pool)
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


def forget_expired(state: State, *, now: Millis, limit: int = 2_000) -> None:
    """Drop ids and orders whose time is over, a bounded number a block."""
    for key, _ in state.scan(b"used-ids/", 2):
        bucket = int.from_bytes(key[-8:], "big")
        if (bucket + 1) * limits.TX_ID_BUCKET_MS > now:
            break
        start, end = (USED + (bucket + step).to_bytes(8, "big") for step in (0, 1))
        ids = state.scan_aux(start, end, limit)
        for aux in ids:
            state.put_aux(aux, None)
        if len(ids) < limit:
            state.put(key, None)
    prefix = b"used-order-expiry/"
    for key, _ in state.scan(prefix, limit):
        expires_at, order = key[len(prefix) : len(prefix) + 8], key[len(prefix) + 8 :]
        if int.from_bytes(expires_at, "big") >= now:
            break
        state.put(key, None)
        state.put(b"used-order/" + order, None)


def as_refusal(fault: PeerFault) -> Refused:
    """A fault in what a user handed in is told to the user."""
    return Refused(fault.code, fault.message)
