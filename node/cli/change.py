"""`fondaco update`, `replace` and `top-up`: changing what runs, where, and for how long it is paid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.completion import lease_argument
from fondaco.node.cli.output import json_option, print_json, say, tenant_home

if TYPE_CHECKING:
    from fondaco.node.tenant.deployment import LeaseHandle
    from fondaco.node.tenant.progress import Progress


@click.command()
@lease_argument
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@tenant_home
@json_option
def update(lease: str, file: Path, home: Path, as_json: bool) -> None:
    """Have LEASE run what the SDL in FILE says of its group; only services that it changes are started anew.

    It must need what was leased: to run something larger, deploy it. Of a service its replicas are updated one
    after the other; the first that does not come up ends it, and the others run on as they were.
    """
    from fondaco.node.cli.tenant import run

    run(_update, lease, file, home, as_json)


@click.command()
@lease_argument
@tenant_home
@click.option("--max-price", type=click.IntRange(min=1), help="Ucredit an hour; as it was ordered unless given.")
@click.option("--not-serving", is_flag=True, help="Say, for the record, that the provider did not serve it.")
@json_option
def replace(lease: str, home: Path, max_price: int | None, not_serving: bool, as_json: bool) -> None:
    """Give what LEASE serves to another provider, within one block and from the same escrow."""
    from fondaco.node.cli.tenant import run

    run(_replace, lease, home, max_price, not_serving, as_json)


@click.command("top-up")
@lease_argument
@click.argument("ucredit", type=click.IntRange(min=1))
@click.option("--payer", default="", metavar="ADDRESS", help="Whose spending grant pays it.")
@tenant_home
@json_option
def top_up(lease: str, ucredit: int, payer: str, home: Path, as_json: bool) -> None:
    """Put UCREDIT more into the escrow that LEASE is paid from.

    A workload that was held since its escrow had run dry goes on where it was.
    """
    from fondaco.node.cli.tenant import run

    run(_top_up, lease, ucredit, payer, home, as_json)


async def _top_up(text: str, ucredit: int, payer: str, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.output import credits
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.deployment import funds
    from fondaco.protocol import addresses

    async with connected(home) as tenant:
        deployment = tenant.find(text).deployment
        found = await deployment.top_up(ucredit, payer=addresses.decode(payer) if payer else None)
    told = {
        "name": deployment.file.name,
        "deployment": found.id.hex(),
        "state": found.state.name.lower(),
        "escrow_ucredit": funds(found),
    }
    if as_json:
        print_json(told)
    else:
        click.echo(f"{told['name']} is {told['state']}, {credits(funds(found))} in escrow")


async def _update(text: str, file: Path, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import changing, services
    from fondaco.node.tenant.ordering import read_sdl

    async with connected(home) as tenant:
        service = services.load(home, text)
        if service is None:
            changed = await changing.update(tenant, tenant.find(text), read_sdl(file), report=_report)
            await _finish(changed, as_json, "runs the new version")
            return
        rows = []
        for name in services.files(service, tenant.folder):
            changed = await changing.update(tenant, tenant.find(name), read_sdl(file), report=_report)
            rows.append(await _told(changed))
            say(f"{name} runs the new version")
        services.save_sdl(home, service.name, read_sdl(file))  # what is ordered anew runs it, too
    if as_json:
        print_json({"name": service.name, "replicas": rows})


async def _replace(text: str, home: Path, max_price: int | None, not_serving: bool, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import changing
    from fondaco.protocol import reasons

    reason = reasons.NOT_SERVING if not_serving else reasons.REPLACED
    async with connected(home) as tenant:
        changed = await changing.replace_provider(
            tenant, tenant.find(text), max_price=max_price, reason=reason, report=_report
        )
        await _finish(changed, as_json, "runs at another provider")


def _report(progress: Progress) -> None:
    say(f"  {progress.step:<10} {progress.detail}")


async def _told(lease: LeaseHandle) -> dict[str, Any]:
    from fondaco.protocol import addresses

    record = await lease.record()
    assert record is not None, "it was just changed"
    return {
        "name": lease.deployment.file.name,
        "lease": lease.id,
        "provider": addresses.encode(record.provider),
        "version": record.version,
        "price_per_hour_ucredit": record.price_per_hour,
    }


async def _finish(lease: LeaseHandle, as_json: bool, what: str) -> None:
    told = await _told(lease)
    if as_json:
        print_json(told)
    else:
        click.echo(f"{told['name']} {what}: lease {lease.id[:12]}, version {told['version']}")
