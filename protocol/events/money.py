"""Money moved or made, and what became of a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import MicroCredits, MicroStake, PublicKey, TxId


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionApplied:
    """Included; `code` is empty where its messages took effect, else why they were refused."""

    TAG: ClassVar[int] = 80
    id: TxId
    fee: MicroCredits
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    TAG: ClassVar[int] = 81
    sender: PublicKey
    to: PublicKey
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    TAG: ClassVar[int] = 82
    to: PublicKey
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Burnt:
    TAG: ClassVar[int] = 183
    owner: PublicKey
    credits: MicroCredits
