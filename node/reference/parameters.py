"""docs/reference/parameters.md, generated from the parameters themselves, so that it cannot fall behind them."""

from __future__ import annotations

import dataclasses

from fondaco.consensus.ledger.params import Params
from fondaco.node.reference import COMMAND

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
