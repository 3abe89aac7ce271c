"""Transactions of transfers alone, which are most of what a busy chain carries, checked without being applied.

What they do depends on one balance and nothing else; to apply them on an overlay, only to drop it, takes five
times as long.
"""

from __future__ import annotations

from fondaco.consensus.ledger import accounts, envelope
from fondaco.consensus.ledger.state import State
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import MicroCredits, TxId
from fondaco.protocol.transactions import Transaction


def are_all(transaction: Transaction) -> bool:
    """Whether it holds nothing else."""
    return {Transfer}.issuperset(map(type, transaction.messages))


def check(state: State, transaction: Transaction, identity: TxId, fee: MicroCredits) -> None:
    """Raise what `Ledger.check_tx` would of one whose expiry has been checked; see `are_all`."""
    envelope.check_unused(state, transaction, identity)
    left = accounts.account_of(state, transaction.sender).credits - fee - transaction.tip
    if left < 0:
        raise envelope.cannot_pay(fee + transaction.tip)
    for message in transaction.messages:
        assert isinstance(message, Transfer), "asked of transfers alone"
        check_amount(message)
        if message.amount > left:
            raise accounts.short_of_credits(left, message.amount)
        left -= 0 if message.to == transaction.sender else message.amount


def check_amount(message: Transfer) -> None:
    """Raise `Refused` `transfer.zero`."""
    if message.amount == 0:
        raise Refused("transfer.zero", "a transfer moves at least one ucredit")
