"""Simulations run the same code a million times: what measures coverage would take two thirds of that time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import coverage
import pytest
from coverage.exceptions import CoverageWarning


@pytest.fixture(autouse=True)
def _unmeasured() -> Iterator[None]:
    """Nothing that is owed may be covered by simulations alone; `make coverage` says so if it is."""
    measuring = coverage.Coverage.current()
    if measuring is None:
        yield
        return
    measuring.stop()
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)  # that our modules are loaded already
        measuring.start()
