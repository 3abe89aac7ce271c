"""Stake, and the parameters of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.scalars import MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    """Puts stake behind the sender as a validator; with enough of it the sender joins the set."""

    TAG: ClassVar[int] = 38
    amount: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbond:
    """Takes stake from behind the sender; it is free after the unbonding time."""

    TAG: ClassVar[int] = 39
    amount: MicroStake


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjail:
    """Asks a jailed sender back into the set, once its time is over."""

    TAG: ClassVar[int] = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChange:
    name: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetParams:
    """Changes chain parameters; the sender is the authority that genesis names."""

    TAG: ClassVar[int] = 41
    changes: tuple[ParameterChange, ...]
    """Ordered by name, each once."""
