"""What a tenant does to what it owns: deploy, end, see the money."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.completion import lease_argument
from fondaco.node.cli.output import credits, home_option, json_option, print_json, say
from fondaco.node.tenant.bounds import SERVICE_REPLICAS

if TYPE_CHECKING:
    from fondaco.node.tenant.choosing import Choice
    from fondaco.node.tenant.client import Plan, Tenant
    from fondaco.node.tenant.deployment import LeaseHandle
    from fondaco.node.tenant.progress import Progress
    from fondaco.protocol.scalars import PublicKey, TemplateId


def run(task: Callable[..., Any], *args: Any) -> Any:
    """Run one asynchronous command, its log lines on standard error."""
    import trio

    from fondaco.node import logs

    logs.configure_quiet()
    return trio.run(task, *args)


@asynccontextmanager
async def connected(home: Path) -> AsyncIterator[Tenant]:
    from fondaco.node.tenant.client import Tenant

    async with Tenant.connect(home) as tenant:
        yield tenant


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@home_option
@click.option("--name", default="", help="What to call the deployment; the file's name unless given.")
@click.option(
    "--deposit", type=click.IntRange(min=1), help="Ucredit to put in escrow; an hour's worth by default."
)
@click.option(
    "--select",
    "strategy",
    metavar="STRATEGY",
    default="cheapest",
    show_default=True,
    help="cheapest, fastest, balanced, audited-first, spread, a file RULES.toml, or module:function.",
)
@click.option("--where", default="", metavar="QUERY", help="What every bid must be: 'price < 2 and audited'.")
@click.option("--template", default="", help="The template it is made of; its authors get their royalties.")
@click.option("--payer", default="", metavar="ADDRESS", help="Whose spending grant pays the deposit.")
@click.option(
    "--replicas",
    type=click.IntRange(1, SERVICE_REPLICAS),
    help="So many deployments of it, NAME.0 and so on, each at another provider; those lacking, if called again.",
)
@click.option(
    "--spread",
    type=click.Choice(["provider", "region"]),
    default="provider",
    show_default=True,
    help="What no two replicas may share; with `region`, providers that name none are left out.",
)
@click.option("--yes", is_flag=True, help="Do not ask before money is spent.")
@click.option("--dry-run", is_flag=True, help="Order and show the plan, but lease nothing.")
@json_option
def deploy(
    file: Path,
    home: Path,
    name: str,
    deposit: int | None,
    strategy: str,
    where: str,
    template: str,
    payer: str,
    replicas: int | None,
    spread: str,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Order what the SDL in FILE asks for, lease it from the best bidder, and run it.

    Returns when the workload answers over the encrypted channel and its activation is on the ledger.
    Progress goes to standard error.
    """
    ask = not (yes or dry_run or as_json or not sys.stdin.isatty())
    from fondaco.node.cli.template import template_from
    from fondaco.node.tenant.choosing import choice
    from fondaco.protocol import addresses

    select = choice(strategy, where)
    if replicas is not None:
        if template or payer or dry_run:
            raise click.UsageError("--replicas goes without --template, --payer and --dry-run")
        from fondaco.node.cli.replicas import deploy_replicas

        run(deploy_replicas, file, home, name or file.stem, replicas, spread, select, deposit, ask, as_json)
        return
    made_of = template_from(template) if template else None
    paid_by = addresses.decode(payer) if payer else None
    run(_deploy, file, home, name, deposit, select, made_of, paid_by, ask, dry_run, as_json)


async def _deploy(
    file: Path,
    home: Path,
    name: str,
    deposit: int | None,
    select: Choice,
    template: TemplateId | None,
    payer: PublicKey | None,
    ask: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from fondaco.node.tenant.client import read_sdl

    def report(progress: Progress) -> None:
        say(f"  {progress.step:<10} {progress.detail}")

    text = read_sdl(file)
    async with connected(home) as tenant:
        plan = await tenant.plan(
            text, deposit=deposit, select=select, template=template, payer=payer, report=report
        )
        result = _plan_json(plan)
        if dry_run:
            _finish(result, as_json, f"would cost {credits(plan.price_per_hour)}/h; nothing was leased")
            return
        if ask:
            escrow = credits(plan.draft.signed.order.deposit)
            click.confirm(
                f"Lease at {credits(plan.price_per_hour)}/h with {escrow} in escrow?", abort=True, err=True
            )
        deployment = await tenant.accept(plan, name=name or file.stem, report=report)
        marks = tenant.timeline.marks
        result |= {
            "deployment": deployment.file.deployment.hex(),
            "name": deployment.file.name,
            "leases": [lease.id for lease in deployment.leases],
            "order_to_first_bid_ms": marks.get("first_bid"),
            "order_to_lease_ms": marks.get("lease"),
            "order_to_running_ms": marks.get("running"),
            "order_to_first_byte_ms": marks.get("first_byte"),
        }
        first = deployment.leases[0].id[:12]
        _finish(
            result,
            as_json,
            f"{deployment.file.name} runs: lease {first}, {credits(plan.price_per_hour)}/h\n"
            f"  fondaco request {first} /     fondaco logs {first}     fondaco close {first}",
        )


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "order": plan.draft.id.hex(),
        "price_per_hour_ucredit": plan.price_per_hour,
        "deposit_ucredit": plan.draft.signed.order.deposit,
        "bids": plan.answers.count_bids(),
        "declines": plan.answers.count_declines(),
        "counter_offers": _counter_offers(plan),
    }


def _counter_offers(plan: Plan) -> list[dict[str, Any]]:
    """What providers that declined would have served instead."""
    from fondaco.protocol import addresses

    return [
        {
            "group": group,
            "provider": addresses.encode(provider),
            "change": offer.change.name.lower(),
            "unit": offer.unit,
            "subject": offer.subject,
            "value": offer.value,
            "price_per_hour_ucredit": offer.price_per_hour,
        }
        for group, declines in plan.answers.declines.items()
        for provider, signed in declines.items()
        for offer in signed.decline.counter_offers
    ]


def _finish(result: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(result)
    else:
        click.echo(text)


@click.command()
@lease_argument
@home_option
@click.option(
    "--grace",
    type=click.IntRange(0, 30),
    metavar="SECONDS",
    help="Before, have programs asked to end, and wait so long until they have.",
)
@json_option
def close(lease: str, home: Path, grace: int | None, as_json: bool) -> None:
    """End a lease: the provider is paid for the time used, the rest comes back."""
    run(_close, lease, home, grace, as_json)


async def _close(text: str, home: Path, grace: int | None, as_json: bool) -> None:
    from fondaco.node.tenant import services

    async with connected(home) as tenant:
        service = services.load(home, text)
        if service is not None:
            from fondaco.node.cli.replicas import close_all

            await close_all(tenant, service, grace, as_json)
            return
        handle = tenant.find(text)
        ended = [] if grace is None else await stop(handle, grace)
        settled = await handle.close()
    result: dict[str, Any] = {"lease": handle.id, "paid_ucredit": settled.paid}
    result["refunded_ucredit"] = settled.refunded
    if grace is not None:
        result["services"] = ended
    _finish(result, as_json, f"closed: {credits(settled.paid)} paid, {credits(settled.refunded)} refunded")


async def stop(handle: LeaseHandle, grace: int) -> list[dict[str, Any]]:
    """A provider that does not do it is no reason to go on paying it."""
    from fondaco.protocol.errors import Refused, Unreachable

    try:
        stopped = await handle.stop(grace_ms=grace * 1_000)
    except (Refused, Unreachable) as error:
        say(f"not stopped before: {error.message} [{error.code}]")
        return []
    for one in stopped.services:
        say(f"  {one.service} {one.replica} ended with exit code {one.exit_code}")
    return [
        {"service": one.service, "replica": one.replica, "exit_code": one.exit_code} for one in stopped.services
    ]


@click.command()
@home_option
@click.option("--faucet", is_flag=True, help="Ask the chain's faucet first, where it has one.")
@json_option
def wallet(home: Path, faucet: bool, as_json: bool) -> None:
    """Show the tenant's address and what it owns, proven."""
    run(_wallet, home, faucet, as_json)


async def _wallet(home: Path, faucet: bool, as_json: bool) -> None:
    async with connected(home) as tenant:
        if faucet:
            await tenant.wallet.ask_faucet()
        account = await tenant.wallet.account()
        result = {"address": tenant.address, "ucredit": account.credits, "ustake": account.stake}
    _finish(result, as_json, f"{tenant.address}\n{credits(account.credits)}")
