"""Transactions: what changes the ledger. Tags 20-21; what is in them is in `messages`.

A transaction is `[version, chain id, sender, expiry, salt, tip, messages]` and its signature. There are no
sequence numbers: it may be included until it expires, at most `limits.TX_LIFE_MS` ahead, and its id once used
is remembered until then. The id excludes the signature. Its messages are applied together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Message
from fondaco.protocol.scalars import (
    ChainId,
    MicroCredits,
    Millis,
    PublicKey,
    Salt,
    Signature,
    TxId,
)
from fondaco.protocol.signing import Signer, message_id

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    TAG: ClassVar[int] = 20
    version: int
    chain: ChainId
    sender: PublicKey
    expires_at: Millis
    """Block time after which it can no longer be included."""
    salt: Salt
    tip: MicroCredits
    """Given to the proposer on top of the fee."""
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    TAG: ClassVar[int] = 21
    transaction: Transaction
    signature: Signature


def transaction_id(transaction: Transaction) -> TxId:
    return TxId(message_id(transaction.chain, transaction))


def sign_transaction(
    signer: Signer,
    chain: ChainId,
    messages: tuple[Message, ...],
    *,
    expires_at: Millis,
    salt: Salt,
    tip: MicroCredits = MicroCredits(0),  # noqa: B008 - a NewType is its integer
) -> SignedTransaction:
    """Put messages in an envelope and sign it."""
    transaction = Transaction(
        version=VERSION,
        chain=chain,
        sender=signer.public_key,
        expires_at=expires_at,
        salt=salt,
        tip=tip,
        messages=messages,
    )
    return SignedTransaction(transaction=transaction, signature=signer.sign(chain, transaction))


def decode_transaction(raw: bytes) -> SignedTransaction:
    """Read a transaction's bytes. Raises `Malformed`, or `Refused` `tx.messages` for an empty or overlong one."""
    signed = codec.decode(raw, SignedTransaction, limit=limits.TX_BYTES)
    count = len(signed.transaction.messages)
    if not 1 <= count <= limits.TX_MESSAGES:
        raise Refused("tx.messages", f"{count} messages, allowed 1..{limits.TX_MESSAGES}")
    return signed
