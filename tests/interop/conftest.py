"""Whoever has no Node.js is told so instead; continuous integration has to have it."""

from __future__ import annotations

import pytest
from tests.support.js_peer import demanded, missing


@pytest.fixture(scope="session", autouse=True)
def js_libp2p() -> None:
    reason = missing()
    if reason and demanded():
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
