"""docs/reference/api.md and docs/reference/market.md, generated from the routes and the tables themselves."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from fondaco.node.market.queries import QUERIES
from fondaco.node.market.schema import TABLES
from fondaco.node.reference import COMMAND

ABOUT_API = f"""# The API

Written by `{COMMAND}`. A node whose `node.toml` says `api = "127.0.0.1:PORT"`
serves it, on loopback only; `/docs` there shows it with every model, `/openapi.json` is the OpenAPI document.

Whatever is not a success is `{{"code", "message", "hint"}}`: 400 for a question that is none or that the rules
refuse, 404 for what is not here, 503 for what cannot be answered now. Lists are `{{"items", "next"}}`: give `next`
as `cursor` for what follows; what is added meanwhile neither shifts nor repeats anything.
"""
ABOUT_MARKET = f"""# The market database

Written by `{COMMAND}`. Tables of the ledger are a function of the blocks alone;
tables of gossip say what this node heard. Accounts are addresses, ids hexadecimal, moments milliseconds since the
Unix epoch, money ucredit. What happened before the log's start (`start_height` in `meta`) is NULL where unknown.
"""


def document() -> dict[str, Any]:
    """The OpenAPI document, which depends on no node."""
    from fondaco.node.api import make_app

    nobody: Any = SimpleNamespace(chain=None, book=None, market=None)
    return make_app(nobody).openapi()


def api_page() -> str:
    lines = [ABOUT_API]
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            lines += [f"## {method.upper()} {path}", "", operation.get("description", ""), ""]
            lines += _parameters(operation.get("parameters", []))
    return "\n".join(lines)


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield "| parameter | in | values | default |"
    yield "|---|---|---|---|"
    for one in parameters:
        schema = one["schema"]
        values = ", ".join(map(str, schema.get("enum", []))) or _range(schema)
        meaning = f"{one['description']}: {values}" if one.get("description") else values
        yield f"| `{one['name']}` | {one['in']} | {meaning} | {schema.get('default', '')} |"
    yield ""


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"{schema['type']} {low}..{high}" if low is not None and high is not None else str(schema["type"])


def market_page() -> str:
    lines = [ABOUT_MARKET]
    for table in TABLES.values():
        lines += [
            f"## {table.name}",
            "",
            f"{table.meaning} Of the {table.source}; key: {', '.join(table.key)}.",
            "",
        ]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [
            f"| `{one.name}` | {one.kind.lower()}{', or null' if one.nullable else ''} | {one.meaning} |"
            for one in table.columns
        ]
        lines.append("")
    lines += ["# Canned queries", "", "`fondaco market query NAME`, `/market/queries/NAME`, and in Datasette.", ""]
    lines += ["| name | what it tells |", "|---|---|"]
    lines += [f"| `{name}` | {query.meaning} |" for name, query in QUERIES.items()]
    return "\n".join([*lines, ""])
