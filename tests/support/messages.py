"""Any message of the protocol, drawn from its annotations: what the codec reads is what this draws."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import pkgutil
import types
import typing
from typing import Any

from hypothesis import strategies as st

import fondaco.protocol
from fondaco.protocol.scalars import BOUNDS, INT_MAX

SHOWN_LENGTH = 40
"""Byte strings, texts and lists are drawn short; their caps have tests of their own."""


def tagged_messages() -> list[type]:
    """Every tagged message that a module of `fondaco.protocol` defines, by name."""
    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(fondaco.protocol.__path__, "fondaco.protocol."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and hasattr(value, "TAG"):
                found[f"{value.__module__}.{name}"] = value
    return [found[name] for name in sorted(found)]


@functools.cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Legal values of an annotation."""
    if isinstance(kind, typing.NewType):
        return _scalars(kind.__supertype__, BOUNDS[kind]) if kind in BOUNDS else values(kind.__supertype__)
    if kind is bool:
        return st.booleans()
    if kind is type(None):
        return st.none()
    if kind is int:
        return _scalars(int, (0, INT_MAX))
    if kind in (str, bytes):
        return _scalars(kind, (0, SHOWN_LENGTH))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*[values(argument) for argument in arguments])
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return st.sampled_from(list(kind))
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})


def _scalars(base: Any, bounds: tuple[int, int]) -> st.SearchStrategy[Any]:
    low, high = bounds
    if base is int:
        return st.integers(low, high)
    if base is bytes:
        return st.binary(min_size=low, max_size=min(high, max(low, SHOWN_LENGTH)))
    longest = min(high, SHOWN_LENGTH) // 4
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=low, max_size=longest)
