"""Stake, power, punishment, and the parameters of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import Hash, Height, MicroStake, Millis, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonded:
    TAG: ClassVar[int] = 93
    validator: PublicKey
    amount: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbondingBegan:
    TAG: ClassVar[int] = 94
    validator: PublicKey
    amount: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbonded:
    """Stake is back in the validator's account."""

    TAG: ClassVar[int] = 95
    validator: PublicKey
    amount: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Slashed:
    """Convicted by evidence, and never a validator again; `amount` went to the community."""

    TAG: ClassVar[int] = 96
    validator: PublicKey
    amount: MicroStake
    evidence: Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Jailed:
    """Missing for too long."""

    TAG: ClassVar[int] = 97
    validator: PublicKey
    until: Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjailed:
    TAG: ClassVar[int] = 98
    validator: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerChanged:
    """The set that decides from `height` on gives a validator `power`; 0 where it is not in it."""

    TAG: ClassVar[int] = 99
    validator: PublicKey
    height: Height
    power: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChanged:
    TAG: ClassVar[int] = 170
    name: str
    value: int
