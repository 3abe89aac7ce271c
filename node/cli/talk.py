"""Talking to a lease over its channel: `status`, `logs`, `request` and `forward`.

Like all commands that use the channel they take a lease of one's own, or with `--token` another's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from fondaco.node.cli.completion import leases
from fondaco.node.cli.output import credits, json_option, print_json, tenant_home
from fondaco.node.cli.tenant import connected, run

if TYPE_CHECKING:
    from fondaco.node.tenant.access import Access


class Target(NamedTuple):
    """Which lease a command is about."""

    home: Path
    lease: str
    """As it was typed; empty where a token says it."""
    token: Path | None

    def required(self) -> Target:
        """Itself, if it names one lease and no more."""
        if not self.lease and self.token is None:
            raise click.UsageError("Missing argument 'LEASE', or --token FILE.")
        if self.lease and self.token is not None:
            raise click.UsageError("the token says which lease: leave LEASE out")
        return self

    def apart(self, *words: str) -> tuple[Target, tuple[str, ...]]:
        """With a token there is no LEASE: what stands in its place is the first of the words."""
        found = (self.lease, *words) if self.token is not None else words
        target = self._replace(lease="") if self.token is not None else self
        return target.required(), tuple(word for word in found if word)


def at_lease(function: Callable[..., None]) -> Callable[..., None]:
    """The command is about one lease: its `target`, first of the arguments."""

    @functools.wraps(function)
    def command(lease: str, home: Path, token: Path | None, **others: Any) -> None:
        source = click.get_current_context().get_parameter_source("key")
        if token is not None and source is ParameterSource.COMMANDLINE:
            raise click.UsageError("the token says which key: leave --key out")
        function(Target(home, lease, token), **others)

    file = click.Path(path_type=Path, dir_okay=False, exists=True)
    about = "Use another's lease by this token, with the key of the home that it is for; LEASE is left out then."
    found: Callable[..., None] = click.option("--token", type=file, metavar="FILE", help=about)(command)
    return click.argument("lease", metavar="[LEASE]", default="", shell_complete=leases)(tenant_home(found))


@asynccontextmanager
async def reached(target: Target) -> AsyncIterator[Access]:
    """The way to the lease that a command is about."""
    if target.token is None:
        async with connected(target.home) as tenant:
            yield tenant.find(target.lease)
        return
    from fondaco.node.tenant import sharing

    token = sharing.load(target.token)
    async with connected(target.home, sharing.holder_key(target.home, token)) as holder:
        yield await sharing.open_shared(holder, token)


@click.command()
@at_lease
@json_option
def status(target: Target, as_json: bool) -> None:
    """Show one lease, or all of them: what the ledger proves, and what the provider says.

    LEASE is (the start of) a lease id, or a deployment's name; or that of a service, to see all its replicas.
    """
    if target.lease and not target.token:
        from fondaco.node.tenant import services

        service = services.load(target.home, target.lease)
        if service is not None:
            from fondaco.node.cli.replicas import show

            run(show, service, target.home, as_json)
            return
    run(_status_one if target.lease or target.token else _status_all, target, as_json)


async def _status_all(target: Target, as_json: bool) -> None:
    from fondaco.node.tenant import owning

    home = target.home
    async with connected(home) as tenant:
        own = tenant.wallet.signer.public_key
        rows: list[dict[str, Any]] = [
            {
                "name": record.name,
                "lease": file.lease.hex(),
                "key": owning.label(home, record.owner or (lease.tenant if lease else own)),
                "state": "unknown" if lease is None else lease.state.name.lower(),
                "price_per_hour_ucredit": None if lease is None else lease.price_per_hour,
                "paid_ucredit": None if lease is None else lease.paid,
            }
            for record, file, lease in await tenant.deployments()
        ]
    if as_json:
        print_json({"leases": rows})
        return
    several = len({row["key"] for row in rows}) > 1
    for row in rows:
        price = "" if row["price_per_hour_ucredit"] is None else credits(row["price_per_hour_ucredit"]) + "/h"
        key = f"{row['key'][:16]:<10}" if several else ""
        click.echo(f"{row['name']:<20} {row['lease'][:12]}  {key}{row['state']:<9} {price}")
    if not rows:
        click.echo("nothing is deployed: fondaco deploy FILE")


async def _status_one(target: Target, as_json: bool) -> None:
    from fondaco.node.tenant import owning
    from fondaco.node.tenant.deployment import funds
    from fondaco.protocol import addresses
    from fondaco.protocol.errors import FondacoError

    async with reached(target) as lease:
        record = await lease.record()
        result: dict[str, Any] = {"name": lease.name, "lease": lease.id}
        if record is not None:
            result["key"] = owning.label(target.home, record.tenant)
        result["provider"] = addresses.encode(lease.place.provider)
        if record is not None:
            result |= {
                "state": record.state.name.lower(),
                "price_per_hour_ucredit": record.price_per_hour,
                "paid_ucredit": record.paid,
                "active_ms": record.active_ms,
                "reason": record.reason,
            }
        if (escrow := await lease.escrow()) is not None:
            result |= {"deployment": escrow.state.name.lower(), "escrow_ucredit": funds(escrow)}
        try:
            said = await lease.status()
            result["provider_says"] = said.phase
            result["detail"] = said.detail
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
@at_lease
@click.option("--service", default="", help="One service only.")
@click.option("--tail", type=click.IntRange(0, 10_000), help="The last so many lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come.")
@click.option("--previous", is_flag=True, help="Of the run before the last start.")
@json_option
def logs(target: Target, service: str, tail: int | None, follow: bool, previous: bool, as_json: bool) -> None:
    """Show the workload's output since its last start. With --json, one object a line."""
    if follow and previous:
        raise click.UsageError("a run that is over cannot be followed")
    run(_logs, target.required(), service, tail, follow, previous, as_json)


async def _logs(
    target: Target, service: str, tail: int | None, follow: bool, previous: bool, as_json: bool
) -> None:
    import json

    async with (
        reached(target) as lease,
        lease.logs(service=service, tail=tail, follow=follow, previous=previous) as items,
    ):
        async for item in items:
            row = {"service": item.service, "time_ms": item.time, "stream": item.stream, "line": item.line}
            click.echo(json.dumps(row) if as_json else f"{item.service}: {item.line}")


@click.command()
@at_lease
@click.argument("path", metavar="[PATH]", default="")
@click.option("--service", default="", help="Which service; the one open to the world unless given.")
@click.option("--port", type=click.IntRange(1, 65_535), default=None, help="Which port; its first unless given.")
@json_option
def request(target: Target, path: str, service: str, port: int | None, as_json: bool) -> None:
    """Send an HTTP GET for PATH (/ unless given) to the workload through the channel; print what it answers."""
    target, words = target.apart(path)
    if len(words) > 1:
        raise click.UsageError("a request has one PATH")
    run(_request, target, words[0] if words else "/", service, port or 0, as_json)


async def _request(target: Target, path: str, service: str, port: int, as_json: bool) -> None:
    async with reached(target) as lease:
        status_code, body = await lease.request(path, service=service, port=port)
    if as_json:
        print_json({"status": status_code, "body": body.decode(errors="replace")})
    else:
        click.echo(body, nl=False)


@click.command()
@at_lease
@click.option("--service", default="", help="Which service; the one open to the world unless given.")
@click.option("--port", type=click.IntRange(1, 65_535), default=None, help="Port in the workload.")
@click.option("--listen", default=0, type=click.IntRange(0, 65_535), help="Local port; any free one unless given.")
def forward(target: Target, service: str, port: int | None, listen: int) -> None:
    """Listen on 127.0.0.1 and carry connections to the workload, until Ctrl-C."""
    run(_forward, target.required(), service, port or 0, listen)


async def _forward(target: Target, service: str, port: int, listen: int) -> None:
    import trio

    from fondaco.node.tenant.forwarding import serve_forward

    async with reached(target) as lease:
        if not (service and port):
            main_service, main_port = lease.main_port()
            service, port = service or main_service, port or main_port
        async with trio.open_nursery() as nursery:
            local: int = await nursery.start(serve_forward, lease, service, port, listen)
            click.echo(f"http://127.0.0.1:{local} -> {service}:{port}")
            sys.stdout.flush()
