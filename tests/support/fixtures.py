"""Where the outside vectors are: beside the checkout, not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def fixtures_dir(name: str = "") -> Path:
    """The fixtures (of `name`), or a skip with the reason.

    In CI with the shared folder in place a missing fixture is a failure: a suite that skips quietly shows nothing.
    """
    path = SHARED / "fixtures" / name
    if path.exists():
        return path
    if os.environ.get("CI") == "true" and SHARED.exists():
        pytest.fail(f"the shared folder is there but {path.name!r} is not")
    pytest.skip(f"no fixtures at ../shared/fixtures/{name}")
