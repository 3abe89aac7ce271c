"""What is common to all tests: the same examples every time, and one flag."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fondaco.node.keys import passphrases

settings.load_profile("ci")  # the same everywhere; look for new examples with `--hypothesis-profile=default`
# A shell that runs us in the background has us ignore it, and whoever we start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Whoever runs us may measure coverage in us; in the processes that we start that would halve their speed.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios",
        action="store_true",
        help="write what the engine does now into tests/scenarios/*.txt; read the difference before you keep it",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What may take long begins first, file by file: at the end nobody waits for the last one of them."""
    usual, longest = float(config.getini("timeout")), dict[Path, float]()
    for item in items:
        limit = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, usual), limit.args[0] if limit else usual)
    processes = {path: "e2e" in path.parts or "runtime" in path.parts for path in longest}
    items.sort(key=lambda item: (-longest[item.path], not processes[item.path]))


@pytest.fixture(autouse=True)
def _no_passphrase_of_another_test() -> Iterator[None]:
    """What a process takes out of its environment it remembers; here one process runs many tests."""
    passphrases.forget()
    yield
    passphrases.forget()
