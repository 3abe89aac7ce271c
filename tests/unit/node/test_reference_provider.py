"""The page on a provider's configuration is current and tells of every key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support.children import ROOT

from fondaco.node import reference_provider as reference
from fondaco.node.provider_config import MachineConfig, ProviderConfig


def test_the_committed_page_is_current() -> None:
    assert (ROOT / reference.PAGE).read_text(encoding="utf-8") == reference.page(), f"run: {reference.COMMAND}"


@pytest.mark.parametrize("kind", [ProviderConfig, MachineConfig])
def test_every_key_has_a_meaning(kind: type) -> None:
    assert set(reference._meanings(kind)) == {field.name for field in dataclasses.fields(kind)}


def test_the_page_is_written_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reference.main(["--check"]) == 1
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    reference.PAGE.write_text("old", encoding="utf-8")
    assert reference.main(["--check"]) == 1
