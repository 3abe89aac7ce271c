"""Writes every page, or says which are not current."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from fondaco.node.reference import COMMAND, api, commands, metrics, parameters, provider

FOLDER = Path("docs", "reference")
PAGES: Mapping[str, Callable[[], str]] = {
    "api.md": api.api_page,
    "commands.md": commands.commands_page,
    "market.md": api.market_page,
    "metrics.md": metrics.metrics_page,
    "parameters.md": parameters.parameters_page,
    "provider.md": provider.provider_page,
}


def main(arguments: list[str] | None = None) -> int:
    """Write the pages below the current folder, or with `--check` compare them; 1 if one is out of date."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="generate reference pages from the code")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    old = [name for name, page in PAGES.items() if _written(FOLDER / name) != page()]
    if parser.parse_args(arguments).check:
        for name in old:
            sys.stderr.write(f"{FOLDER / name} is not current; run: {COMMAND}\n")
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in old:
        (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
    return 0


def _written(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
