"""Reference pages that are generated from the code, so that they cannot fall behind it.

    python -m fondaco.node.reference            writes docs/reference/parameters.md
    python -m fondaco.node.reference --check    says whether the file is current

No command needs this at run time; a test keeps the committed file current.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from fondaco.consensus.ledger.params import Params

PARAMETERS = Path("docs/reference/parameters.md")
COMMAND = "python -m fondaco.node.reference"
_INTRODUCTION = """\
# Chain parameters

Every number of the market that a chain may choose. A chain sets them in the `params` object of its genesis
document; what is left out takes the default, and an unknown name or a value outside its bounds is refused. Their
hash stands in every header. "Set by" says who may change a parameter once the chain has started: votes
(`fondaco gov propose params`), and the authority where the genesis names one (`fondaco params set`).

This page is generated from `consensus/ledger/params.py` by `{command}`; change it there.

| parameter | default | unit | bounds | set by | meaning |
|---|---:|---|---|---|---|
"""


def parameters_page() -> str:
    """The page on chain parameters, in Markdown."""
    return _INTRODUCTION.format(command=COMMAND) + "".join(map(_row, dataclasses.fields(Params)))


def _row(field: dataclasses.Field[int]) -> str:
    facts = field.metadata
    bounds = f"{facts['low']:,} .. {facts['high']:,}"
    cells = (f"`{field.name}`", f"{field.default:,}", facts["unit"], bounds, "genesis, votes", facts["meaning"])
    return f"| {' | '.join(cells)} |\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the pages below the current folder, or with `--check` compare them; 1 if one is out of date."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Generate reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    if not parser.parse_args(arguments).check:
        PARAMETERS.parent.mkdir(parents=True, exist_ok=True)
        PARAMETERS.write_text(parameters_page(), encoding="utf-8")
        return 0
    return 0 if PARAMETERS.exists() and PARAMETERS.read_text(encoding="utf-8") == parameters_page() else 1


if __name__ == "__main__":
    raise SystemExit(main())
