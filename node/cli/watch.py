"""What a lease takes, and what happened to it: `usage` and `events`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import moment, size
from fondaco.node.cli.talk import Target, at_lease, reached
from fondaco.node.cli.tenant import run

if TYPE_CHECKING:
    from fondaco.protocol.channel_calls import LeaseEvent, Usage

lines_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


@click.command()
@at_lease
@click.option("--service", default="", help="One service only.")
@click.option("--follow", "-f", is_flag=True, help="Again each second, until Ctrl-C.")
@lines_option
def usage(target: Target, service: str, follow: bool, as_json: bool) -> None:
    """Show what each replica of the workload takes: processor, memory, processes, network."""
    run(_usage, target.required(), service, follow, as_json)


async def _usage(target: Target, service: str, follow: bool, as_json: bool) -> None:
    before: dict[tuple[str, int], Usage] = {}
    async with reached(target) as lease:
        leased = {one.name: one.resources for one in lease.group.services} if lease.group else {}
        async with lease.usage(service=service, follow=follow) as items:
            async for item in items:
                key = (item.service, item.replica)
                percent = _cpu_percent(before.get(key), item)
                before[key] = item
                resources = leased.get(item.service)
                of = None if resources is None else resources.memory_bytes
                row = _usage_json(item, percent, of)
                click.echo(json.dumps(row) if as_json else _usage_line(item, percent, of))
    if not before and not as_json:
        click.echo("nothing runs")


def _cpu_percent(before: Usage | None, now: Usage) -> float | None:
    """Of one processor, since the look before; None at the first look, and if it was started again since."""
    if before is None or now.time <= before.time or now.cpu_ms < before.cpu_ms:
        return None
    return 100 * (now.cpu_ms - before.cpu_ms) / (now.time - before.time)


def _usage_json(item: Usage, percent: float | None, of: int | None) -> dict[str, Any]:
    return {
        "service": item.service,
        "replica": item.replica,
        "time_ms": item.time,
        "cpu_ms": item.cpu_ms,
        "cpu_percent": None if percent is None else round(percent, 1),
        "memory_bytes": item.memory_bytes,
        "memory_leased_bytes": of,
        "processes": item.processes,
        "received_bytes": item.received_bytes,
        "sent_bytes": item.sent_bytes,
    }


def _usage_line(item: Usage, percent: float | None, of: int | None) -> str:
    cpu = f"{item.cpu_ms / 1000:.2f} s" if percent is None else f"{percent:.1f} %"
    memory = size(item.memory_bytes) + ("" if of is None else f" of {size(of)}")
    network = f"received {size(item.received_bytes)}, sent {size(item.sent_bytes)}"
    name = f"{item.service} {item.replica}"
    return f"{name:<16} cpu {cpu}, memory {memory}, {item.processes} processes, {network}"


@click.command()
@at_lease
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only those with a higher number.")
@click.option("--follow", "-f", is_flag=True, help="Go on as things happen, until the lease ends.")
@lines_option
def events(target: Target, after: int, follow: bool, as_json: bool) -> None:
    """Show what the provider did with the lease and saw of it: starts, exits, restarts, updates."""
    run(_events, target.required(), after, follow, as_json)


async def _events(target: Target, after: int, follow: bool, as_json: bool) -> None:
    async with reached(target) as lease, lease.events(after=after, follow=follow) as items:
        async for event in items:
            click.echo(json.dumps(_event_json(event)) if as_json else _event_line(event))


def _event_json(event: LeaseEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "time_ms": event.time,
        "kind": event.kind,
        "service": event.service,
        "replica": event.replica,
        "code": event.code,
        "detail": event.detail,
    }


def _event_line(event: LeaseEvent) -> str:
    who = f"{event.service} {event.replica}" if event.service else ""
    code = "" if event.code is None else f"exit code {event.code}"
    what = ", ".join(part for part in (code, event.detail) if part)
    return f"{event.number:>4}  {moment(event.time)}  {who:<12} {event.kind:<12} {what}".rstrip()
