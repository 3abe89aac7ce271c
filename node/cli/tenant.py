"""What a tenant does: deploy, look, reach, end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.completion import lease_argument, leases
from fondaco.node.cli.output import credits, home_option, json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.node.tenant.choosing import Choice
    from fondaco.node.tenant.client import Plan, Tenant
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
@click.argument("lease", metavar="[LEASE]", default="", shell_complete=leases)
@home_option
@json_option
def status(lease: str, home: Path, as_json: bool) -> None:
    """Show one lease, or all of them: what the ledger proves, and what the provider says.

    LEASE is (the start of) a lease id, or a deployment's name.
    """
    run(_status_one if lease else _status_all, lease, home, as_json)


async def _status_all(_: str, home: Path, as_json: bool) -> None:
    async with connected(home) as tenant:
        rows: list[dict[str, Any]] = [
            {
                "name": record.name,
                "lease": file.lease.hex(),
                "state": "unknown" if lease is None else lease.state.name.lower(),
                "price_per_hour_ucredit": None if lease is None else lease.price_per_hour,
                "paid_ucredit": None if lease is None else lease.paid,
            }
            for record, file, lease in await tenant.deployments()
        ]
    if as_json:
        print_json({"leases": rows})
        return
    for row in rows:
        price = "" if row["price_per_hour_ucredit"] is None else credits(row["price_per_hour_ucredit"]) + "/h"
        click.echo(f"{row['name']:<20} {row['lease'][:12]}  {row['state']:<9} {price}")
    if not rows:
        click.echo("nothing is deployed: fondaco deploy FILE")


async def _status_one(text: str, home: Path, as_json: bool) -> None:
    from fondaco.node.tenant.deployment import funds
    from fondaco.protocol import addresses
    from fondaco.protocol.errors import FondacoError

    async with connected(home) as tenant:
        lease = tenant.find(text)
        record = await lease.record()
        result: dict[str, Any] = {"name": lease.deployment.file.name, "lease": lease.id}
        result["provider"] = addresses.encode(lease.file.provider)
        if record is not None:
            result |= {
                "state": record.state.name.lower(),
                "price_per_hour_ucredit": record.price_per_hour,
                "paid_ucredit": record.paid,
                "active_ms": record.active_ms,
                "reason": record.reason,
            }
        if (escrow := await lease.deployment.record()) is not None:
            result |= {"deployment": escrow.state.name.lower(), "escrow_ucredit": funds(escrow)}
        try:
            said = await lease.status()
            result["provider_says"] = said.phase
            result["services"] = [
                {
                    "service": one.service,
                    "state": one.state,
                    "exit_code": one.exit_code,
                    "restarts": one.restarts,
                    "last_end": one.last_end or None,
                }
                for one in said.services
            ]
        except FondacoError as error:
            result["provider_says"] = str(error)
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        if key != "services":
            click.echo(f"{key:<24} {value}")
    for service in result.get("services", []):
        ended = f", ended {service['restarts']} times: {service['last_end']}" if service["last_end"] else ""
        click.echo(f"  {service['service']:<22} {service['state']}{ended}")


@click.command()
@lease_argument
@home_option
@click.option("--service", default="", help="One service only.")
@click.option("--tail", type=click.IntRange(0, 10_000), help="The last so many lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come.")
@click.option("--previous", is_flag=True, help="Of the run before the last start.")
@json_option
def logs(
    lease: str, home: Path, service: str, tail: int | None, follow: bool, previous: bool, as_json: bool
) -> None:
    """Show the workload's output since its last start. With --json, one object a line."""
    if follow and previous:
        raise click.UsageError("a run that is over cannot be followed")
    run(_logs, lease, home, service, tail, follow, previous, as_json)


async def _logs(
    text: str, home: Path, service: str, tail: int | None, follow: bool, previous: bool, as_json: bool
) -> None:
    import json

    async with (
        connected(home) as tenant,
        tenant.find(text).logs(service=service, tail=tail, follow=follow, previous=previous) as items,
    ):
        async for item in items:
            row = {"service": item.service, "time_ms": item.time, "stream": item.stream, "line": item.line}
            click.echo(json.dumps(row) if as_json else f"{item.service}: {item.line}")


@click.command()
@lease_argument
@click.argument("path", default="/")
@home_option
@click.option("--service", default="", help="Which service; the one open to the world unless given.")
@click.option("--port", type=click.IntRange(1, 65_535), default=None, help="Which port; its first unless given.")
@json_option
def request(lease: str, path: str, home: Path, service: str, port: int | None, as_json: bool) -> None:
    """Send an HTTP GET for PATH to the workload, through the encrypted channel, and print what it answers."""
    run(_request, lease, path, home, service, port or 0, as_json)


async def _request(text: str, path: str, home: Path, service: str, port: int, as_json: bool) -> None:
    async with connected(home) as tenant:
        status_code, body = await tenant.find(text).request(path, service=service, port=port)
    if as_json:
        print_json({"status": status_code, "body": body.decode(errors="replace")})
    else:
        click.echo(body, nl=False)


@click.command()
@lease_argument
@home_option
@click.option("--service", default="", help="Which service; the one open to the world unless given.")
@click.option("--port", type=click.IntRange(1, 65_535), default=None, help="Port in the workload.")
@click.option("--listen", default=0, type=click.IntRange(0, 65_535), help="Local port; any free one unless given.")
def forward(lease: str, home: Path, service: str, port: int | None, listen: int) -> None:
    """Listen on 127.0.0.1 and carry connections to the workload, until Ctrl-C."""
    run(_forward, lease, home, service, port or 0, listen)


async def _forward(text: str, home: Path, service: str, port: int, listen: int) -> None:
    import trio

    from fondaco.node.tenant.forwarding import serve_forward

    async with connected(home) as tenant:
        lease = tenant.find(text)
        main_service, main_port = lease.main_port()
        async with trio.open_nursery() as nursery:
            local: int = await nursery.start(
                serve_forward, lease, service or main_service, port or main_port, listen
            )
            click.echo(f"http://127.0.0.1:{local} -> {service or main_service}:{port or main_port}")
            sys.stdout.flush()


@click.command()
@lease_argument
@home_option
@json_option
def close(lease: str, home: Path, as_json: bool) -> None:
    """End a lease: the provider is paid for the time used, the rest comes back."""
    run(_close, lease, home, as_json)


async def _close(text: str, home: Path, as_json: bool) -> None:
    async with connected(home) as tenant:
        handle = tenant.find(text)
        settled = await handle.close()
    result = {"lease": handle.id, "paid_ucredit": settled.paid, "refunded_ucredit": settled.refunded}
    _finish(result, as_json, f"closed: {credits(settled.paid)} paid, {credits(settled.refunded)} refunded")


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
