"""`fondaco order`, `bids`, `accept`: what `deploy` does, step by step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from fondaco.node.cli.ordering import choice_options, explain_option, order_options, payment_options, yes_option
from fondaco.node.cli.output import credits, json_option, moment, print_json, say, tenant_home
from fondaco.node.cli.tenant import connected, finish, run, running, told_progress

if TYPE_CHECKING:
    from fondaco.node.tenant.choosing import Choice
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.open_orders import OpenOrder
    from fondaco.node.tenant.plans import Plan
    from fondaco.protocol.scalars import PublicKey, TemplateId


def _open(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Orders that stand in the home that the command line names so far."""
    from fondaco.node.cli.output import default_home
    from fondaco.node.tenant import open_orders
    from fondaco.protocol.errors import FondacoError

    try:
        known = open_orders.load_all(Path(context.params.get("home") or default_home()))
    except FondacoError:
        return []
    names = {one.name for one in known} | {one.draft.id.hex()[:12] for one in known}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@tenant_home
@order_options
@payment_options
@json_option
def order(
    file: Path, home: Path, name: str, deposit: int | None, template: str, payer: str, as_json: bool
) -> None:
    """Publish what the SDL in FILE asks for, and take no bid yet.

    It costs nothing, and stands for five minutes: `fondaco bids` shows the answers, `fondaco accept` takes one.
    """
    from fondaco.node.cli.template import template_from
    from fondaco.protocol import addresses

    made_of = template_from(template) if template else None
    paid_by = addresses.decode(payer) if payer else None
    run(_order, file, home, name or file.stem, deposit, made_of, paid_by, as_json)


async def _order(
    file: Path,
    home: Path,
    name: str,
    deposit: int | None,
    template: TemplateId | None,
    payer: PublicKey | None,
    as_json: bool,
) -> None:
    from fondaco.node.tenant import open_orders
    from fondaco.node.tenant.open_orders import OpenOrder
    from fondaco.node.tenant.ordering import read_sdl

    text = read_sdl(file)
    async with connected(home) as tenant:
        draft = await tenant.order(text, deposit=deposit, template=template, payer=payer, report=told_progress)
        placed = OpenOrder(draft=draft, text=text, name=name)
        open_orders.save(home, placed)
    short = draft.id.hex()[:12]
    until = f"order {short} stands until {moment(placed.expires_at)}"
    finish(_plain(placed), as_json, f"{until}\n  fondaco bids {short}     fondaco accept {short}")


def _plain(placed: OpenOrder) -> dict[str, Any]:
    return {
        "order": placed.draft.id.hex(),
        "name": placed.name,
        "groups": [group.name for group in placed.draft.groups],
        "deposit_ucredit": placed.draft.signed.order.deposit,
        "expires_at": placed.expires_at,
    }


@click.command()
@click.argument("order", required=False, shell_complete=_open)
@tenant_home
@choice_options
@explain_option
@json_option
def bids(
    order: str | None,
    home: Path,
    strategy: str,
    where: str,
    vantages: tuple[Path, ...],
    explain: bool,
    as_json: bool,
) -> None:
    """Show the bids on ORDER, the best first; without ORDER, the orders that stand.

    ORDER is the start of its id, or its name.
    """
    from fondaco.node.tenant import open_orders
    from fondaco.node.tenant.choosing import choice

    if order is not None:
        run(_bids, open_orders.find(home, order), home, choice(strategy, where, vantages), explain, as_json)
        return
    known = open_orders.load_all(home)
    if as_json:
        print_json({"orders": [_plain(one) for one in known]})
        return
    for one in known:
        click.echo(f"{one.draft.id.hex()[:12]}  {one.name:<20} stands until {moment(one.expires_at)}")
    if not known:
        click.echo("no order stands: make one with `fondaco order FILE`")


async def _bids(placed: OpenOrder, home: Path, select: Choice, explain: bool, as_json: bool) -> None:
    from fondaco.node.cli import plan as plans

    async with connected(home) as tenant:
        found = await _heard(tenant, placed, select, as_json)
    finish(plans.plain(found), as_json, "\n".join(plans.table(found, explain=explain)))


async def _heard(tenant: Tenant, placed: OpenOrder, select: Choice, as_json: bool) -> Plan:
    """The answers to an order, ranked.

    Raises `Refused` `keys.not_owner` for another key's order; `TooFewBids`, once it was said what would draw bids.
    """
    from fondaco.node.cli import relaxations
    from fondaco.node.tenant import owning
    from fondaco.node.tenant.relaxing import TooFewBids

    owning.check_key(tenant, placed.draft.signed.order.tenant, f"the order {placed.name!r}")
    try:
        return await tenant.bids(placed.draft, placed.text, select=select, report=told_progress)
    except TooFewBids as error:
        finish(relaxations.plain(error), as_json, "\n".join(relaxations.table(error, Path(placed.name))))
        raise


@click.command()
@click.argument("order", shell_complete=_open)
@click.argument("bids", metavar="[BID]...", nargs=-1)
@tenant_home
@choice_options
@yes_option
@json_option
def accept(
    order: str,
    bids: tuple[str, ...],
    home: Path,
    strategy: str,
    where: str,
    vantages: tuple[Path, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Lease ORDER from whoever made BID, and run it.

    BID is the start of a bid's id, or of its provider's address: one for each group that is not to go to the best
    one. Said again after it was broken off, it goes on.
    """
    from fondaco.node.tenant import open_orders
    from fondaco.node.tenant.choosing import choice

    ask = not (yes or as_json or not sys.stdin.isatty())
    run(_accept, open_orders.find(home, order), bids, home, choice(strategy, where, vantages), ask, as_json)


async def _accept(
    placed: OpenOrder, wanted: tuple[str, ...], home: Path, select: Choice, ask: bool, as_json: bool
) -> None:
    from fondaco.node.cli import plan as plans
    from fondaco.node.cli.nodes import found_out
    from fondaco.node.tenant import naming, open_orders
    from fondaco.protocol.errors import Refused
    from fondaco.protocol.market import deployment_id

    async with connected(home) as tenant:
        here = await naming.standing(tenant, placed.name, report=told_progress)
        if here is not None:
            if here.deployment.file.deployment != deployment_id(placed.draft.id):
                close = next(iter(here.leases.values()))[0].id[:12]
                raise Refused(
                    "deploy.stands",
                    f"{placed.name!r} stands already, of another order; nothing was spent",
                    hint=f"order it under another --name, or `fondaco close {close}` first",
                )
            await naming.settle(tenant, here, placed.text, report=told_progress)
            open_orders.forget(home, placed.draft.id)
            finish({"name": here.name, "done": True}, as_json, f"{here.name} runs: what was begun before is done")
            return
        plan = await _heard(tenant, placed, select, as_json)
        for bid in wanted:
            plan = plan.taking(bid)
        for line in plans.table(plan):
            say(line)
        if ask:
            click.confirm(f"Lease at {credits(plan.price_per_hour)}/h?", abort=True, err=True)
        deployment = await tenant.open(plan, name=placed.name, report=told_progress)
        await deployment.hand_over(told_progress)
        open_orders.forget(home, placed.draft.id)
        result, text = running(tenant, deployment, plan)
        result |= await found_out(tenant.light)
    finish(plans.plain(plan) | result, as_json, text)
