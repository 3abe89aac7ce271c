"""The pages of the API and of the market's tables are those that would be written now."""

from __future__ import annotations

from fondaco.node.market.queries import QUERIES
from fondaco.node.market.schema import TABLES
from fondaco.node.reference import api


def test_every_route_table_and_query_is_on_them() -> None:
    page = api.api_page()
    for path, operations in api.document()["paths"].items():
        for method, operation in operations.items():
            assert f"## {method.upper()} {path}\n" in page
            assert operation["description"], f"{path} says what it is"
            assert {"200", "400", "404", "503"} <= operation["responses"].keys()
            assert "422" not in operation["responses"]
            content = operation["responses"]["200"]["content"]
            assert path == "/metrics" or content["application/json"]["schema"], "a model"
    page = api.market_page()
    assert all(f"## {name}\n" in page for name in TABLES)
    assert all(f"| `{name}` |" in page for name in QUERIES)
