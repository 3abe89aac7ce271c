"""The pages of the API and of the market's tables are those that would be written now."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.children import ROOT

from fondaco.node import reference_api
from fondaco.node.market.queries import QUERIES
from fondaco.node.market.schema import TABLES


def test_the_committed_pages_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert reference_api.main(["--check"]) == 0, f"run: {reference_api.COMMAND}"


def test_every_route_table_and_query_is_on_them() -> None:
    page = reference_api.api_page()
    for path, operations in reference_api.document()["paths"].items():
        for method, operation in operations.items():
            assert f"## {method.upper()} {path}\n" in page
            assert operation["description"], f"{path} says what it is"
            assert {"200", "400", "404", "503"} <= operation["responses"].keys()
            assert "422" not in operation["responses"]
            content = operation["responses"]["200"]["content"]
            assert path == "/metrics" or content["application/json"]["schema"], "a model"
    page = reference_api.market_page()
    assert all(f"## {name}\n" in page for name in TABLES)
    assert all(f"| `{name}` |" in page for name in QUERIES)


def test_the_pages_are_written_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reference_api.main(["--check"]) == 1
    assert reference_api.main([]) == 0
    assert reference_api.main(["--check"]) == 0
