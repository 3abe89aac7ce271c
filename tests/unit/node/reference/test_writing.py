"""The committed pages are those that would be written now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.children import ROOT

from fondaco.node.reference import COMMAND
from fondaco.node.reference.writing import FOLDER, PAGES, main


@pytest.mark.parametrize("name", PAGES)
def test_a_committed_page_is_current_and_says_how_it_was_made(name: str) -> None:
    page = (ROOT / FOLDER / name).read_text(encoding="utf-8")
    assert page == PAGES[name](), f"run: {COMMAND}"
    assert COMMAND in page


def test_pages_are_written_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    capsys.readouterr()
    (FOLDER / "api.md").write_text("old", encoding="utf-8")
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == f"{FOLDER / 'api.md'} is not current; run: {COMMAND}\n"


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "fondaco.node.reference", "--check"]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0
