"""Messages and events as JSON values for people: accounts are addresses, ids hexadecimal, enumerations words.

What a value is follows from the annotation of its field, since an account and a hash are both thirty-two bytes.
So any message or event can be shown, those not thought of yet too.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

from fondaco.protocol import addresses
from fondaco.protocol.matching import gpu_models
from fondaco.protocol.resources import Attribute, ResourceUnit, totals
from fondaco.protocol.scalars import DeploymentId, LeaseId, OrderId, PublicKey

IDS = (PublicKey, LeaseId, DeploymentId, OrderId)
"""What an event can be found by."""


@functools.lru_cache(maxsize=4_096)
def address(key: PublicKey) -> str:
    return addresses.encode(key)


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Names and annotations of a message's fields."""
    hints = typing.get_type_hints(kind)
    return tuple((one.name, _bare(hints[one.name])) for one in dataclasses.fields(kind))


def _bare(kind: Any) -> Any:
    """An annotation without its None."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    members = [one for one in typing.get_args(kind) if one is not types.NoneType]
    return members[0] if len(members) == 1 else None


def shown(value: Any, kind: Any = None) -> Any:
    """A message, or a value annotated as `kind`."""
    if value is None:
        return None
    if kind is PublicKey:
        return address(value)
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        inner = _bare(typing.get_args(kind)[0]) if typing.get_args(kind) else None
        return [shown(one, inner) for one in value]
    if isinstance(value, Attribute):
        return {value.key: value.value}
    if dataclasses.is_dataclass(value):
        return {name: shown(getattr(value, name), hint) for name, hint in _fields(typing.cast(Any, type(value)))}
    return value


@functools.cache
def _ids(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((name, hint) for name, hint in _fields(kind) if hint in IDS)


def named(event: Any) -> list[tuple[str, str]]:
    """(id, field) of each account, lease and deployment that a message names by itself."""
    found = ((name, hint, getattr(event, name)) for name, hint in _ids(typing.cast(Any, type(event))))
    return [(shown(value, hint), name) for name, hint, value in found if value is not None]


def named_within(message: Any) -> Iterator[str]:
    """Every account, order, lease and deployment that a message names, in what it holds too."""
    yield from (identity for identity, _ in named(message))
    for name, _ in _fields(typing.cast(Any, type(message))):
        value = getattr(message, name)
        for one in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(one):
                yield from named_within(one)


def word(kind: type) -> str:
    """`LeaseOpened` as `lease_opened`."""
    return _snake(kind.__name__)


@functools.cache
def _snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name).lstrip("_")


def gpus(units: tuple[ResourceUnit, ...]) -> dict[str, int]:
    """GPUs by model, over all replicas."""
    found: dict[str, int] = {}
    for unit in units:
        models = gpu_models(unit.resources.gpu_attributes)
        if unit.resources.gpu_units:
            names = sorted(
                {" ".join(part for part in (one.model, one.ram, one.interface) if part) for one in models}
            )
            name = " or ".join(names)
            found[name] = found.get(name, 0) + unit.count * unit.resources.gpu_units
    return dict(sorted(found.items()))


def amounts(*units: tuple[ResourceUnit, ...]) -> dict[str, int]:
    """The columns that say how much, summed over groups."""
    sums = [dataclasses.asdict(totals(each)) for each in units]
    return {name: sum(one[name] for one in sums) for name in sums[0]}
