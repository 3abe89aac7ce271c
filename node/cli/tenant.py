"""What a tenant does to what it owns: deploy, end, see the money."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.completion import lease_argument
from fondaco.node.cli.ordering import choice_options, explain_option, order_options, payment_options, yes_option
from fondaco.node.cli.output import credits, json_option, print_json, say, tenant_home
from fondaco.node.tenant.bounds import SERVICE_REPLICAS
from fondaco.protocol import solver_bounds as bounds

if TYPE_CHECKING:
    from fondaco.node.tenant.choosing import Choice
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.deployment import Deployment, LeaseHandle
    from fondaco.node.tenant.naming import Standing
    from fondaco.node.tenant.plans import Plan
    from fondaco.node.tenant.progress import Progress
    from fondaco.protocol.scalars import PublicKey, TemplateId


STEPS = {
    "nothing": ("runs what the file says", "runs already what the file says, nothing was spent"),
    "go_on": ("would be handed over, as was begun before", "runs: what was begun before is done"),
    "update": ("would be updated", "runs the new version"),
}
"""What a further `deploy` of a name would do, and did."""


def run(task: Callable[..., Any], *args: Any) -> Any:
    """Run one asynchronous command, its log lines on standard error."""
    import trio

    from fondaco.node import logs

    logs.configure_quiet()
    return trio.run(task, *args)


@asynccontextmanager
async def connected(home: Path, key: str | None = None) -> AsyncIterator[Tenant]:
    """A tenant acting with this key of the home; unless given, the one that the command is to use."""
    from fondaco.node.cli.unlocking import open_key
    from fondaco.node.tenant.client import Tenant

    async with Tenant.connect(home, key=open_key(home, key)) as tenant:
        yield tenant


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@tenant_home
@order_options
@choice_options
@click.option(
    "--want",
    type=click.IntRange(1, bounds.BIDS_WANTED),
    metavar="BIDS",
    default=1,
    show_default=True,
    help="So many bids there must be for each group, or nothing is leased.",
)
@payment_options
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
@yes_option
@click.option("--dry-run", is_flag=True, help="Order and show the plan, but lease nothing.")
@explain_option
@json_option
def deploy(
    file: Path,
    home: Path,
    name: str,
    deposit: int | None,
    strategy: str,
    where: str,
    vantages: tuple[Path, ...],
    want: int,
    template: str,
    payer: str,
    replicas: int | None,
    spread: str,
    yes: bool,
    dry_run: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Order what the SDL in FILE asks for, lease it from the best bidder, and run it.

    Returns when the workload answers over the encrypted channel and its activation is on the ledger. Said again,
    it leases nothing more: what runs under this name is made as FILE says, or it is said why it cannot be.
    Progress goes to standard error. Where too few bid, it says what to change in FILE that would draw bids, and
    what each change costs.
    """
    ask = not (yes or dry_run or as_json or not sys.stdin.isatty())
    from fondaco.node.cli.template import template_from
    from fondaco.node.tenant.choosing import choice
    from fondaco.protocol import addresses

    select = choice(strategy, where, vantages)
    name = name or file.stem
    if replicas is not None:
        if template or payer or dry_run or want != 1:
            raise click.UsageError("--replicas goes without --want, --template, --payer and --dry-run")
        from fondaco.node.cli.replicas import deploy_replicas

        run(deploy_replicas, file, home, name, replicas, spread, select, deposit, ask, as_json)
        return
    wish = Wish(
        file=file,
        name=name,
        deposit=deposit,
        select=select,
        wanted=want,
        template=template_from(template) if template else None,
        payer=addresses.decode(payer) if payer else None,
    )
    run(_deploy, home, wish, ask, dry_run, explain, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be deployed, and how."""

    file: Path
    name: str
    deposit: int | None
    select: Choice
    wanted: int
    template: TemplateId | None
    payer: PublicKey | None


def told_progress(progress: Progress) -> None:
    """Steps as people follow them; choices are shown as a table."""
    if progress.step != "choice":
        say(f"  {progress.step:<10} {progress.detail}")


async def _deploy(home: Path, wish: Wish, ask: bool, dry_run: bool, explain: bool, as_json: bool) -> None:
    from fondaco.node.cli import plan as plans
    from fondaco.node.cli.nodes import found_out
    from fondaco.node.tenant import naming
    from fondaco.node.tenant.ordering import read_sdl

    text = read_sdl(wish.file)
    async with connected(home) as tenant:
        here = await naming.standing(tenant, wish.name, report=told_progress)
        if here is not None:
            await _deploy_again(tenant, here, text, wish, dry_run, as_json)
            return
        plan = await _plan(tenant, text, wish, as_json)
        result = plans.plain(plan)
        for line in plans.table(plan, explain=explain):
            say(line)
        if dry_run:
            result |= await found_out(tenant.light)
            finish(result, as_json, f"would cost {credits(plan.price_per_hour)}/h; nothing was leased")
            return
        if ask:
            escrow = credits(plan.draft.signed.order.deposit)
            click.confirm(
                f"Lease at {credits(plan.price_per_hour)}/h with {escrow} in escrow?", abort=True, err=True
            )
        deployment = await tenant.accept(plan, name=wish.name, report=told_progress)
        ran, told = running(tenant, deployment, plan)
        finish(result | ran | await found_out(tenant.light), as_json, told)


def running(tenant: Tenant, deployment: Deployment, plan: Plan) -> tuple[dict[str, Any], str]:
    """What is told of a new deployment that runs: to programs, and to people."""
    marks = tenant.timeline.marks
    result = {
        "deployment": deployment.file.deployment.hex(),
        "name": deployment.file.name,
        "leases": [lease.id for lease in deployment.leases],
        "order_to_first_bid_ms": marks.get("first_bid"),
        "order_to_lease_ms": marks.get("lease"),
        "order_to_running_ms": marks.get("running"),
        "order_to_first_byte_ms": marks.get("first_byte"),
    }
    name, first = deployment.file.name, deployment.leases[0].id[:12]
    one = name if len(deployment.leases) == 1 else first
    told = (
        f"{name} runs: lease {first}, {credits(plan.price_per_hour)}/h\n"
        f"  fondaco request {one} /     fondaco logs {one}     fondaco close {one}"
    )
    return result, told


async def _deploy_again(
    tenant: Tenant, here: Standing, text: bytes, wish: Wish, dry_run: bool, as_json: bool
) -> None:
    """Something stands under this name: it is made as the file says, and no money is moved."""
    from fondaco.node.tenant import naming

    step = naming.step(here, text, tenant)
    if wish.deposit or wish.payer or wish.template:
        say("  stands     --deposit, --payer and --template are for new deployments: nothing was done with them")
    if not dry_run:
        await naming.settle(tenant, here, text, report=told_progress)
    result = {
        "deployment": here.deployment.file.deployment.hex(),
        "name": here.name,
        "leases": [handle.id for handle, _ in here.leases.values()],
        "price_per_hour_ucredit": here.price_per_hour,
        "step": step.value,
        "done": not dry_run,
    }
    would, did = STEPS[step.value]
    told = f"{here.name} stands and {would}; nothing was done" if dry_run else f"{here.name} {did}"
    first = next(iter(here.leases.values()))[0].id[:12]
    finish(result, as_json, f"{told}: lease {first}, {credits(here.price_per_hour)}/h")


async def _plan(tenant: Tenant, text: bytes, wish: Wish, as_json: bool) -> Plan:
    """Order and choose; where too few bid, what would draw bids is the result. Raises `TooFewBids` then."""
    from fondaco.node.cli import relaxations
    from fondaco.node.tenant.relaxing import TooFewBids

    try:
        return await tenant.plan(
            text,
            deposit=wish.deposit,
            select=wish.select,
            template=wish.template,
            payer=wish.payer,
            wanted=wish.wanted,
            report=told_progress,
        )
    except TooFewBids as error:
        finish(relaxations.plain(error), as_json, "\n".join(relaxations.table(error, wish.file)))
        raise


def finish(result: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(result)
    else:
        click.echo(text)


@click.command()
@lease_argument
@tenant_home
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
    finish(result, as_json, f"closed: {credits(settled.paid)} paid, {credits(settled.refunded)} refunded")


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
