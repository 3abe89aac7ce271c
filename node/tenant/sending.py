"""Sending credits so that a crash sends nothing twice.

    HOME/sending/ADDRESS.json    the one transfer of this key whose end is not known yet

What is signed is on disk before it is handed in, and stays there until it is known what became of it. Whoever says
`send` again after a crash has the same transaction handed in again: the ledger applies it once, whatever happened.
A transaction lives a minute; nodes remember what they applied for a while, and no longer. Where none of them does,
nothing is sent before a person has looked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from fondaco.node import clock
from fondaco.node.files import write_atomically
from fondaco.node.tenant.wallet import EMPTY, TX_LIFE_MS, Wallet
from fondaco.protocol import addresses, codec
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.messages import Transfer
from fondaco.protocol.records import Account, key_account
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey, Salt, Signature, TxId
from fondaco.protocol.transactions import (
    VERSION,
    SignedTransaction,
    Transaction,
    decode_transaction,
    transaction_id,
)

REMEMBERED_S = 5.0
"""So long nodes are asked for the end of a transaction whose time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A transfer that was signed, and whose end is not known."""

    to: PublicKey
    amount: MicroCredits
    raw: bytes

    @property
    def id(self) -> TxId:
        return transaction_id(decode_transaction(self.raw).transaction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A transfer that was applied, and what is proven to be in both accounts after it."""

    to: PublicKey
    amount: MicroCredits
    height: int
    again: bool
    """It had been begun before: nothing was sent a second time."""
    left: Account
    received: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What sending would do; nothing is signed yet."""

    to: PublicKey
    amount: MicroCredits
    fee: int
    """In ucredit."""
    account: Account
    receiver: Account
    """As they are before."""

    @property
    def left(self) -> int:
        """Ucredit that stay."""
        return self.account.credits - self.amount - self.fee


async def intend(wallet: Wallet, to: PublicKey, amount: MicroCredits) -> Intent:
    """What it would take. Raises `Refused` `wallet.self`, or `wallet.funds` where that is not there."""
    if to == wallet.signer.public_key:
        raise Refused("wallet.self", "that is the sender's own address", hint="name whom it is for")
    params, account = await wallet.params(), await wallet.account()
    receiver = await wallet.light.record(key_account(to), Account)
    found = Intent(
        to=to,
        amount=amount,
        fee=params.fee_base + params.fee_per_byte * _size(wallet, Transfer(to=to, amount=amount)),
        account=account,
        receiver=receiver or EMPTY,
    )
    if found.left < 0:
        raise Refused(
            "wallet.funds",
            f"{amount} ucredit and a fee of {found.fee} are needed, the account holds {account.credits}",
            hint="send less, or fill the account first",
        )
    return found


def _size(wallet: Wallet, message: Transfer) -> int:
    """Bytes of the transaction that it takes, as long as the one that will be signed."""
    transaction = Transaction(
        version=VERSION,
        chain=wallet.light.chain,
        sender=wallet.signer.public_key,
        expires_at=Millis(clock.now() + TX_LIFE_MS),
        salt=Salt(bytes(16)),
        tip=MicroCredits(0),
        messages=(message,),
    )
    return len(codec.encode(SignedTransaction(transaction=transaction, signature=Signature(bytes(64)))))


async def send(wallet: Wallet, home: Path, intent: Intent) -> Sent:
    """Send, and return what is proven of it. Raises `Refused` as the ledger does, or `Unreachable`.

    What was begun before must have been settled: see `settle`.
    """
    own = wallet.signer.public_key
    assert pending(home, own) is None, "settled before"
    await wallet.light.cross_check()
    begun: list[Pending] = []

    def keep(raw: bytes) -> None:
        begun.append(Pending(to=intent.to, amount=intent.amount, raw=raw))
        save(home, own, begun[0])

    try:
        height = await wallet.transact(Transfer(to=intent.to, amount=intent.amount), keep=keep)
    except Refused:
        drop(home, own)
        raise
    return await _done(wallet, home, begun[0], height, again=False)


async def settle(wallet: Wallet, home: Path) -> Sent | None:
    """Find out what became of a transfer that was begun before; None if there is none, or it never came about.

    While its time is not over it is handed in again. Raises `Refused` `wallet.unsure` where nobody knows.
    """
    found = pending(home, wallet.signer.public_key)
    if found is None:
        return None
    try:
        await wallet.light.submit_transaction(found.raw)
        patience_s = TX_LIFE_MS / 1_000
    except Refused:
        # Used or expired, or it could not be paid for a second time: that says nothing of the first.
        patience_s = REMEMBERED_S
    with trio.move_on_after(patience_s):
        outcome = await wallet.light.outcome(found.id)
        if outcome.code:
            drop(home, wallet.signer.public_key)
            return None
        return await _done(wallet, home, found, outcome.height, again=True)
    raise Refused(
        "wallet.unsure",
        f"{found.amount} ucredit to {addresses.encode(found.to)} were begun to be sent, "
        "and no node remembers whether they were",
        hint="look at both accounts; then the same command with --forget-unsure goes on without it",
    )


async def _done(wallet: Wallet, home: Path, begun: Pending, height: int, *, again: bool) -> Sent:
    """It is applied, as was proven; what the accounts hold since."""
    light = wallet.light
    left = await wallet.account(at_least=height)
    received = await light.record(key_account(begun.to), Account, at_least=height) or EMPTY
    await light.cross_check()
    drop(home, wallet.signer.public_key)
    return Sent(to=begun.to, amount=begun.amount, height=height, again=again, left=left, received=received)


def _path(home: Path, key: PublicKey) -> Path:
    return home / "sending" / f"{addresses.encode(key)}.json"


def save(home: Path, key: PublicKey, begun: Pending) -> None:
    path = _path(home, key)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {
        "to": addresses.encode(begun.to),
        "amount_ucredit": begun.amount,
        "transaction": begun.raw.hex(),
    }
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")


def drop(home: Path, key: PublicKey) -> None:
    """What became of it is known, or shall not matter."""
    _path(home, key).unlink(missing_ok=True)


def pending(home: Path, key: PublicKey) -> Pending | None:
    """The transfer of this key whose end is not known. Raises `Refused` `wallet.malformed`."""
    path = _path(home, key)
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        raw = bytes.fromhex(document["transaction"])
        transaction = decode_transaction(raw).transaction
        (message,) = transaction.messages
        if not isinstance(message, Transfer) or transaction.sender != key:
            raise ValueError("it is no transfer of this key")
        return Pending(
            to=message.to,
            amount=message.amount,
            raw=raw,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, Malformed, Refused) as error:
        raise Refused("wallet.malformed", f"{path}: {error}", hint="move the file away") from None
