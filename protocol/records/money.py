"""Accounts, all the money there is, and the ids of transactions in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import Hash, MicroCredits, MicroStake, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    TAG: ClassVar[int] = 70
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """All the money there is: genesis plus minted less burnt; an invariant of every block."""

    TAG: ClassVar[int] = 74
    credits: MicroCredits
    stake: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Running sums that make the invariants cheap to check: what accounts, escrows and bonds hold."""

    TAG: ClassVar[int] = 75
    account_credits: MicroCredits
    escrow_credits: MicroCredits
    """In the escrows of deployments, and deposits held for proposals."""
    pool_credits: MicroCredits
    account_stake: MicroStake
    bonded_stake: MicroStake
    """Behind providers and validators, what is on its way out included."""
    pool_stake: MicroStake
    """Slashed; belongs to the community."""
    providers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedIds:
    """Transactions included whose expiry falls in one bucket: how many, and a running hash over them."""

    TAG: ClassVar[int] = 77
    count: int
    digest: Hash


SUPPLY = b"supply"
TOTALS = b"totals"


def key_account(owner: PublicKey) -> bytes:
    return b"account/" + owner


def key_used_ids(bucket: int) -> bytes:
    return b"used-ids/" + bucket.to_bytes(8, "big")
