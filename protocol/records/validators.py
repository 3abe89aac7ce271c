"""Who decides, with what behind them, and what is remembered against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.agreement import Validator
from fondaco.protocol.scalars import INT_MAX, Hash, Height, MicroStake, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorSets:
    """The sets that decide the next two heights, with their proposer priorities."""

    TAG: ClassVar[int] = 76
    last: tuple[Validator, ...]
    """The set that decided the newest block; empty at genesis."""
    next: tuple[Validator, ...]
    after: tuple[Validator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbonding:
    """Stake on its way back to a validator; until then it answers for what the validator did before."""

    amount: MicroStake
    height: Height
    """Of the block that began it."""
    since: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Stake:
    """What stands behind a validator, or somebody who would be one."""

    TAG: ClassVar[int] = 160
    validator: PublicKey
    bonded: MicroStake
    unbonding: tuple[Unbonding, ...]
    """Oldest first."""
    jailed_until: Millis | None
    """Out of the set; from then on it may ask back in. None: not jailed."""
    tombstoned: bool
    """Convicted of breaking its word: never in the set again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A validator whose signature the newest certificates lack."""

    validator: PublicKey
    missed: int
    """Certificates in a row."""
    since: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Absences:
    """Everybody who is missing at the moment, ordered by key."""

    TAG: ClassVar[int] = 161
    absent: tuple[Absence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who may change parameters until governance can; named in genesis."""

    TAG: ClassVar[int] = 162
    key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatorsFrom:
    """The validators from one height on, until the next record; priorities are of no account."""

    TAG: ClassVar[int] = 163
    members: tuple[Validator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The time of the first block of a stretch of heights."""

    TAG: ClassVar[int] = 164
    time: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Convicted:
    """Evidence that a block held; its hash is the key."""

    TAG: ClassVar[int] = 165
    height: Height
    """Of the offence."""


PARAMS = b"params"
VALIDATORS = b"validators"
ABSENCES = b"absences"
AUTHORITY = b"authority"


def key_stake(validator: PublicKey) -> bytes:
    return b"stake/" + validator


def key_stake_rank(bonded: MicroStake, validator: PublicKey) -> bytes:
    """Ordered by stake, most first, of those who may be in the set."""
    return b"stake-rank/" + (INT_MAX - bonded).to_bytes(8, "big") + validator


def key_unbonding(at: Millis, validator: PublicKey) -> bytes:
    """Ordered by the time at which stake may be free again."""
    return b"unbonding/" + at.to_bytes(8, "big") + validator


def key_validators_from(height: Height) -> bytes:
    """Ordered downwards, so that a scan from a height finds the record that holds there first."""
    return b"validators-from/" + (INT_MAX - height).to_bytes(8, "big")


def key_moment(stretch: int) -> bytes:
    return b"moment/" + stretch.to_bytes(8, "big")


def key_convicted(evidence: Hash) -> bytes:
    return b"evidence/" + evidence


def key_convicted_at(height: Height, evidence: Hash) -> bytes:
    """Ordered by height, so that evidence too old to be offered again is forgotten."""
    return b"evidence-height/" + height.to_bytes(8, "big") + evidence
