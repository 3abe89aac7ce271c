"""What the API answers with, as pydantic models: made of the messages and tables, so that they cannot differ."""

from __future__ import annotations

import enum
import functools
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from fondaco.node.market.schema import Table
from fondaco.protocol import limits
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import BOUNDS

T = TypeVar("T")
HEX = "^([0-9a-f]{2})*$"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(Strict):
    """What every answer that is no success says."""

    code: str = Field(description="stable, dotted: programs match on it")
    message: str = Field(description="what is wrong, in one line")
    hint: str = Field(description="what to do next; may be empty")


class Page(Strict, Generic[T]):
    """Some rows of a list, in its order."""

    items: list[T]
    next: str | None = Field(description="give it as `cursor` for what follows; none at the end")


class Submitted(Strict):
    id: str = Field(pattern=HEX, description="the transaction's id")


def plain(value: Any) -> Any:
    """A message or record as JSON values: bytes in hexadecimal, enumerations by name."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Attribute):
        return {value.key: value.value}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


@functools.cache
def model_of(kind: Any, name: str = "", /, **more: Any) -> type[BaseModel]:
    """The model of what `plain` makes of a message or record; `more` are fields added to it, by type."""
    hints = typing.get_type_hints(kind)
    columns: dict[str, Any] = {field.name: (_type(hints[field.name]), ...) for field in fields(kind)}
    columns |= {added: (hint, ...) for added, hint in more.items()}
    said = kind.__doc__ or ""
    meaning = "" if said.startswith(f"{kind.__name__}(") else said  # what a dataclass without one is given
    return create_model(name or kind.__name__, __base__=Strict, __doc__=meaning, **columns)


def _type(hint: Any) -> Any:
    base = getattr(hint, "__supertype__", hint)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if base is bytes:
        low, high = BOUNDS.get(hint, (0, limits.BLOB_BYTES))
        return Annotated[str, Field(pattern=HEX, min_length=2 * low, max_length=2 * high)]
    if origin is tuple:
        return list[_type(arguments[0])]  # type: ignore[misc]
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not types.NoneType)
        return _type(inner) | None
    if base is Attribute:
        return dict[str, str]
    if isinstance(base, type) and issubclass(base, enum.Enum):
        return Literal[tuple(member.name.lower() for member in base)]
    if is_dataclass(base):
        return model_of(typing.cast(Any, base))
    return base


@functools.cache
def row_model(table: Table) -> type[BaseModel]:
    """The model of a row of the market database; binary columns are left out."""
    kinds: dict[str, Any] = {"INTEGER": int, "TEXT": str, "JSON": Any}
    columns: dict[str, Any] = {}
    for column in table.columns:
        if column.kind != "BLOB":
            kind = kinds[column.kind]
            kind = kind | None if column.nullable else kind
            columns[column.name] = (Annotated[kind, Field(description=column.meaning)], ...)
    name = "Market" + "".join(part.capitalize() for part in table.name.split("_"))
    return create_model(name, __base__=Strict, __doc__=table.meaning, **columns)
