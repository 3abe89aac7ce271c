"""The reference page of a provider's configuration, made of the fields it is read into."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from fondaco.node.provider_config import MachineConfig, ProviderConfig
from fondaco.node.reference import COMMAND

_INTRODUCTION = f"""\
# A provider's configuration

The `[provider]` of a node's `node.toml`. Amounts are in whole units, prices and costs in ucredit an hour, times in
milliseconds. [Set your prices](../how-to/set-your-prices.md) and
[Decide whom you serve](../how-to/decide-whom-you-serve.md) say how to use it.

This page is generated from `node/provider_config.py` by `{COMMAND}`; change it there.
"""


def provider_page() -> str:
    """The whole page, in Markdown."""
    lines = [_INTRODUCTION, *_table(ProviderConfig), "", "## `[[provider.machines]]`", "", *_table(MachineConfig)]
    return "\n".join(lines) + "\n"


def _table(kind: Any) -> Iterator[str]:
    meanings = _meanings(kind)
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in dataclasses.fields(kind):
        cells = (f"`{field.name}`", f"`{_type(str(field.type))}`", _default(field), meanings.get(field.name, ""))
        yield f"| {' | '.join(cells)} |"


def _meanings(kind: Any) -> dict[str, str]:
    """What is said below each field."""
    found, name = {}, ""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    for one in body.body:
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            name = one.target.id
        elif name and isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
            found[name] = " ".join(str(one.value.value).split()).replace("|", "\\|")
    return found


def _type(annotation: str) -> str:
    """As TOML has it."""
    named = {
        "str": "text",
        "int": "integer",
        "bool": "boolean",
        "Path | None": "path",
        "tuple[str, ...]": "list of texts",
        "tuple[tuple[int, int], ...]": "list of pairs",
        "tuple[MachineConfig, ...]": "tables",
        "Mapping[str, int]": "table of integers",
        "Mapping[str, str]": "table of texts",
    }
    return named[annotation]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "needed"
    value = field.default if field.default is not dataclasses.MISSING else None
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        return f"{value:,}"
    return f"`{value}`" if value else ""
