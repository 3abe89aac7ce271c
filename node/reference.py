"""docs/reference/parameters.md, generated from the parameters themselves, so that it cannot fall behind them.

python -m fondaco.node.reference            writes the page
python -m fondaco.node.reference --check    says whether the file is current
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fondaco.consensus.ledger.params import Params
from fondaco.node.reference_pages import write_or_check

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
    """Write the page, or with `--check` compare; 1 if out of date."""
    return write_or_check(COMMAND, {PARAMETERS: parameters_page()}, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
