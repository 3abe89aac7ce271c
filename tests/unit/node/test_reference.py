from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.children import ROOT

from fondaco.consensus.ledger.params import Params, params_from
from fondaco.node import reference

FIELDS = dataclasses.fields(Params)


def test_the_committed_page_of_parameters_is_current() -> None:
    page = (ROOT / reference.PARAMETERS).read_text(encoding="utf-8")
    assert page == reference.parameters_page(), f"run: {reference.COMMAND}"


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_the_page_tells_everything_about_a_parameter(field: dataclasses.Field[int]) -> None:
    (row,) = (line for line in reference.parameters_page().splitlines() if line.startswith(f"| `{field.name}` |"))
    for fact in (f"{field.default:,}", field.metadata["unit"], field.metadata["meaning"], "genesis"):
        assert fact in row
    assert f"{field.metadata['low']:,} .. {field.metadata['high']:,}" in row


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_defaults_and_both_bounds_of_a_parameter_are_allowed(field: dataclasses.Field[int]) -> None:
    for value in (field.default, field.metadata["low"], field.metadata["high"]):
        assert getattr(params_from({field.name: value}), field.name) == value


def test_the_page_is_written_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reference.main(["--check"]) == 1
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    reference.PARAMETERS.write_text("old", encoding="utf-8")
    assert reference.main(["--check"]) == 1


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "fondaco.node.reference", "--check"]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0
