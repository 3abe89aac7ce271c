"""Transactions: what changes the ledger. Tags 20-21 the envelope, 30-69 the messages.

A transaction is `[version, chain id, sender, expiry, salt, tip, messages]` and its signature. There are no
sequence numbers: it may be included until it expires, at most `limits.TX_LIFE_MS` ahead, and its id once used
is remembered until then. The id excludes the signature. Its messages are applied together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedBid, SignedOrder, SignedReceipt
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    LeaseId,
    MicroCredits,
    MicroStake,
    Millis,
    PublicKey,
    Salt,
    SealingKey,
    Signature,
    TxId,
)
from fondaco.protocol.signing import Signer, message_id

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Moves credits from the sender to `to`."""

    TAG: ClassVar[int] = 30
    to: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Faucet:
    """Mints credits and stake to the sender, on chains whose genesis allows it; such a transaction is free."""

    TAG: ClassVar[int] = 31
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterProvider:
    """Makes the sender a provider, or replaces what it said of itself."""

    TAG: ClassVar[int] = 32
    attributes: tuple[Attribute, ...]
    peer: str
    """The libp2p peer id that serves its channel."""
    addresses: tuple[str, ...]
    sealing_key: SealingKey
    """Manifests are sealed to it."""
    bond: MicroStake
    """The whole bond that shall stand behind the provider; the difference is taken from its stake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease:
    """Turns an order and one bid a group into a deployment, escrow and leases; the sender is the tenant."""

    TAG: ClassVar[int] = 33
    order: SignedOrder
    bids: tuple[SignedBid, ...]
    """In the order of the groups."""
    deposit: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """Adds to a deployment's escrow; anyone may."""

    TAG: ClassVar[int] = 34
    deployment: DeploymentId
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """The provider says that the workload runs, and shows that the tenant handed it over."""

    TAG: ClassVar[int] = 35
    receipt: SignedReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Pays the provider what a lease owes it by now."""

    TAG: ClassVar[int] = 36
    lease: LeaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLease:
    """Ends one lease; the deployment ends, and its escrow is refunded, with its last one."""

    TAG: ClassVar[int] = 37
    lease: LeaseId
    reason: int
    """0-9999 from the tenant, 10000-19999 from the provider; the network's own start at 20000."""


Message = Transfer | Faucet | RegisterProvider | OpenLease | Deposit | Activate | Withdraw | CloseLease


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
