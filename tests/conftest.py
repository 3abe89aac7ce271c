"""What is common to all tests: one flag."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write what the engine does now into tests/scenarios/*.txt; read the difference before you keep it",
    )
