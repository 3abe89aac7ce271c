from __future__ import annotations

import pytest
from tests.support.sdl_files import attempt

from fondaco.node.bench import sdl
from fondaco.protocol.sdl import Mode


def test_the_application_that_is_measured_is_accepted() -> None:
    stack = attempt(sdl.application(), Mode.STRICT)
    assert stack is not None
    assert len(stack.specs) == 2
    assert all(len(spec.units) == len(sdl.SERVICES) for spec in stack.specs)


def test_the_figures_stand_beside_what_libyaml_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdl, "RUNS", 3)
    found = sdl.measure()
    assert 0 < found.limit["compose_ms_p50"].value < found.figures["ms_per_file_p50"].value
    assert found.figures["ms_per_file_p50"].value <= found.figures["ms_per_file_p99"].value
