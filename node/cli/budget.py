"""`fondaco budget`: the most that a tenant's key may put into escrow or send away."""

from __future__ import annotations

from pathlib import Path

import click

from fondaco.node.cli.output import chosen_key, json_option, print_json, tenant_home
from fondaco.node.cli.output import credits as shown

NONE = "none"


@click.command()
@click.argument("limit", metavar="[AMOUNT/SPAN|none]", required=False)
@tenant_home
@json_option
def budget(limit: str | None, home: Path, as_json: bool) -> None:
    """Show what went out, and the budget; or set it: `fondaco budget 5/day`, credits an hour, day or week.

    It counts deposits into escrow and transfers, of every command that uses this key from this home; what closed
    leases give back makes room again. A command that would exceed it is refused before anything is signed.
    """
    from fondaco.node import clock
    from fondaco.node.keys.keystore import Keystore
    from fondaco.node.tenant.budget import SPANS, Purse, credits

    store = Keystore(home / "keys")
    purse = Purse(home, store.info(chosen_key() or store.default()).public_key)
    if limit is not None:
        purse.set(None if limit == NONE else credits(limit))
    kept, now = purse.read(), clock.now()
    spent = {span: kept.within(span, now) for span in SPANS}
    if as_json:
        said = None if kept.limit is None else {"ucredit": kept.limit.ucredit, "span": kept.limit.span}
        print_json({"budget": said, "spent_ucredit": spent})
        return
    click.echo("no budget is set" if kept.limit is None else f"budget {kept.limit}")
    for span, amount in spent.items():
        left = ""
        if kept.limit is not None and kept.limit.span == span:
            left = f", {shown(max(0, kept.limit.ucredit - amount))} left"
        click.echo(f"  in the last {span:<5} {shown(amount)}{left}")
