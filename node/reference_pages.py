"""What all modules that generate reference pages do: write the pages, or say whether those are current.

No command needs them at run time; tests keep the committed files current.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path


def write_or_check(command: str, pages: Mapping[Path, str], arguments: list[str] | None) -> int:
    """Write the pages below the current folder, or with `--check` compare them; 1 if one is out of date."""
    parser = argparse.ArgumentParser(prog=command, description="generate reference pages from the code")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    if parser.parse_args(arguments).check:
        return 0 if all(map(_is_current, pages.items())) else 1
    for path, page in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    return 0


def _is_current(page: tuple[Path, str]) -> bool:
    path, text = page
    return path.exists() and path.read_text(encoding="utf-8") == text
