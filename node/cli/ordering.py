"""The options that commands share which order, choose and lease."""

from __future__ import annotations

from pathlib import Path

import click

from fondaco.node.cli.output import F

_name = click.option("--name", default="", help="What to call the deployment; the file's name unless given.")
_deposit = click.option(
    "--deposit", type=click.IntRange(min=1), help="Ucredit to put in escrow; an hour's worth by default."
)
_template = click.option(
    "--template", default="", help="The template it is made of; its authors get their royalties."
)
_payer = click.option("--payer", default="", metavar="ADDRESS", help="Whose spending grant pays the deposit.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask before money is spent.")
explain_option = click.option(
    "--explain", is_flag=True, help="Show every bid, and why each won, lost or cannot be taken."
)
_select = click.option(
    "--select",
    "strategy",
    metavar="STRATEGY",
    default="cheapest",
    show_default=True,
    help="cheapest, fastest, balanced, audited-first, spread, a file RULES.toml, or module:function.",
)
_where = click.option(
    "--where", default="", metavar="QUERY", help="What every bid must be: 'price < 2 and audited'."
)
_vantage = click.option(
    "--vantage",
    "vantages",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    multiple=True,
    help="Latency counts from where FILE was measured, not from here; the worst of several. May be repeated.",
)


def order_options(function: F) -> F:
    """What is ordered, and who pays: `name`, `deposit`."""
    return _name(_deposit(function))


def choice_options(function: F) -> F:
    """How one chooses among bids: `strategy`, `where`, `vantages`."""
    return _select(_where(_vantage(function)))


def payment_options(function: F) -> F:
    """Who is paid besides, and who pays: `template`, `payer`."""
    return _template(_payer(function))
