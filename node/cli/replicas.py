"""Several replicas under one name, as `deploy`, `status` and `close` show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import credits, print_json, say
from fondaco.node.cli.tenant import connected
from fondaco.protocol.errors import FondacoError, Refused

if TYPE_CHECKING:
    from fondaco.node.tenant.choosing import Choice
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.plans import Plan
    from fondaco.node.tenant.progress import Progress
    from fondaco.node.tenant.replicas import Done
    from fondaco.node.tenant.services import Service


async def deploy_replicas(
    file: Path,
    home: Path,
    name: str,
    count: int,
    spread: str,
    select: Choice,
    deposit: int | None,
    ask: bool,
    as_json: bool,
) -> None:
    """Raises `Refused` `replicas.lacking` if fewer run than were asked for, once it was said which ones do."""
    from fondaco.node.tenant import replicas
    from fondaco.node.tenant.ordering import read_sdl

    asked = False

    def report(progress: Progress) -> None:
        say(f"  {progress.step:<10} {progress.detail}")

    def confirm(plan: Plan, left: int) -> None:
        nonlocal asked
        if ask and not asked:
            escrow = credits(plan.draft.signed.order.deposit)
            price = credits(plan.price_per_hour)
            text = f"Lease {left} replicas, the first at {price}/h, with {escrow} in escrow each?"
            click.confirm(text, abort=True, err=True)
            asked = True

    text = read_sdl(file)
    async with connected(home) as tenant:
        done = await replicas.deploy(
            tenant,
            text,
            name=name,
            count=count,
            spread=spread,
            select=select,
            deposit=deposit,
            confirm=confirm,
            report=report,
        )
        _tell(done, as_json)
    if done.lacking:
        names = ", ".join(done.lacking)
        first = next(iter(done.lacking.values()))
        raise Refused(
            "replicas.lacking",
            f"{count - len(done.lacking)} of {count} replicas are there; {names}: {first}",
            hint="the same command again orders those that are lacking",
        )


def _tell(done: Done, as_json: bool) -> None:
    service = done.service
    if as_json:
        print_json(
            {
                "name": service.name,
                "count": service.count,
                "spread": service.spread,
                "replicas": [
                    {
                        "name": name,
                        "deployment": deployment.file.deployment.hex(),
                        "leases": [lease.id for lease in deployment.leases],
                        "providers": [_address(lease.file.provider) for lease in deployment.leases],
                    }
                    for name, deployment in done.got.items()
                ],
                "lacking": [
                    {"name": name, "code": error.code, "message": error.message}
                    for name, error in done.lacking.items()
                ],
            }
        )
        return
    for name, deployment in done.got.items():
        first = deployment.leases[0]
        click.echo(f"{name:<20} runs: lease {first.id[:12]} at {_address(first.file.provider)[:16]}")
    for name, error in done.lacking.items():
        click.echo(f"{name:<20} {error.code}: {error.message}")
    if done.got:
        click.echo(f"  fondaco route {service.name} --supervise     fondaco status {service.name}")


def _address(key: Any) -> str:
    from fondaco.protocol import addresses

    return addresses.encode(key)


async def show(service: Service, home: Path, as_json: bool) -> None:
    """All replicas of a service: what the ledger proves, and what their providers say."""
    import trio

    from fondaco.node.tenant import services

    rows: dict[str, dict[str, Any]] = {}
    async with connected(home) as tenant, trio.open_nursery() as nursery:
        for name, file in services.files(service, tenant.folder).items():
            nursery.start_soon(_row, tenant, name, file, rows)
    ordered = [rows[name] for name in service.replicas if name in rows]
    if as_json:
        print_json(
            {"name": service.name, "count": service.count, "spread": service.spread, "replicas": ordered}
            | {"lacking": service.missing()}
        )
        return
    for row in ordered:
        left = "" if row["runway_ms"] is None else f", lasts {row['runway_ms'] / 3_600_000:.1f} h"
        place = f"{row['provider'][:16]} {row['region'] or '-'}"
        click.echo(f"{row['name']:<16} {row['lease'][:12]}  {row['condition']:<9} {place}{left}")
    for name in service.missing():
        click.echo(f"{name:<16} is lacking")


async def _row(tenant: Tenant, name: str, file: Any, rows: dict[str, dict[str, Any]]) -> None:
    from fondaco.node.tenant import replicas
    from fondaco.node.tenant.supervision import money
    from fondaco.node.tenant.watching import look

    found = await look(tenant, file, 0)
    seen, lease = found.seen, found.seen.lease
    held = None if seen.deployment is None else money(seen.deployment, list(found.leases), at=seen.at)
    regions = await replicas.regions_of(tenant, [found.handle.file.provider]) if seen.proven else set[str]()
    rows[name] = {
        "name": name,
        "lease": found.handle.id,
        "provider": _address(found.handle.file.provider),
        "region": next(iter(regions), None),
        "state": "unknown" if lease is None else lease.state.name.lower(),
        "condition": seen.condition.value,
        "price_per_hour_ucredit": None if lease is None else lease.price_per_hour,
        "escrow_ucredit": None if held is None else held.left,
        "runway_ms": None if held is None else held.runway_ms,
        "detail": seen.detail,
    }


async def close_all(tenant: Tenant, service: Service, grace: int | None, as_json: bool) -> None:
    """End every replica; the service is forgotten once all have ended."""
    from fondaco.node.cli.tenant import stop
    from fondaco.node.tenant import services
    from fondaco.node.tenant.deployment import Deployment
    from fondaco.protocol.records import LeaseState

    rows: list[dict[str, Any]] = []
    failed: list[FondacoError] = []
    for name, file in services.files(service, tenant.folder).items():
        for lease in Deployment(tenant, file).leases:
            try:
                record = await lease.record()
                if record is None or record.state is LeaseState.CLOSED:
                    continue
                if grace is not None:
                    await stop(lease, grace)
                settled = await lease.close()
            except FondacoError as error:
                failed.append(error)
                say(f"{name} is not closed: {error}")
                continue
            rows.append(
                {
                    "name": name,
                    "lease": lease.id,
                    "paid_ucredit": settled.paid,
                    "refunded_ucredit": settled.refunded,
                }
            )
    if not failed:
        services.forget(tenant.home, service.name)
    if as_json:
        print_json({"name": service.name, "closed": rows})
    else:
        for row in rows:
            click.echo(f"{row['name']} closed: {credits(row['paid_ucredit'])} paid")
    if failed:
        raise failed[0]
