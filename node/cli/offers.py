"""`fondaco offers`: what providers have, what of it is free, and what they ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import credits, json_option, print_json, size, tenant_home

if TYPE_CHECKING:
    from fondaco.protocol.query.fields import Kind
    from fondaco.protocol.selection import Stock

NAME = 16
"""Characters of a provider's address that people are shown."""


@click.command()
@click.argument("query", default="")
@tenant_home
@click.option("--sort", default="price", show_default=True, metavar="FIELD", help="-FIELD: the greatest first.")
@click.option("--cpu", default="0", help="Processors looked for: 2, 500m.")
@click.option("--memory", default="0", help="Memory looked for: 4GiB.")
@click.option("--storage", default="0", help="Storage looked for.")
@click.option("--gpu", type=click.IntRange(min=0), default=0, help="GPUs looked for, of one model.")
@json_option
def offers(
    query: str, home: Path, sort: str, cpu: str, memory: str, storage: str, gpu: int, as_json: bool
) -> None:
    """Show what providers offer that QUERY holds of: 'gpu.model in [h100, a100] price < 2.5 region = us-*'.

    One row for the processors of a provider, and one for each model of GPU it has. The price is its list price for
    what is looked for: one processor or one GPU, unless said. Only bids bind: `fondaco deploy`.
    """
    from fondaco.node.cli.tenant import run
    from fondaco.protocol.query.fields import Kind
    from fondaco.protocol.resources import Totals

    wanted = Totals(
        cpu_milli=_amount(Kind.CPU, "--cpu", cpu),
        memory_bytes=_amount(Kind.BYTES, "--memory", memory),
        storage_bytes=_amount(Kind.BYTES, "--storage", storage),
        gpu_units=gpu,
    )
    run(_offers, home, query, sort, wanted, as_json)


def _amount(kind: Kind, option: str, text: str) -> int:
    from fondaco.protocol.query.fields import read_amount

    found = read_amount(kind, text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not {kind.value}", param_hint=option)
    return int(found)


async def _offers(home: Path, query: str, sort: str, wanted: Any, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected

    async with connected(home) as tenant:
        by = sort.removeprefix("-")
        found = await tenant.offers(query, sort=by, descending=sort.startswith("-"), wanted=wanted)
    rows = [_plain(one) for one in found]
    if as_json:
        print_json({"offers": rows})
        return
    cells = [["provider", "region", "GPU", "free", "credits/h", "audited by"], *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells if rows else ():
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    if not rows:
        click.echo("nobody offers such a thing now")


def _plain(one: Stock) -> dict[str, Any]:
    from fondaco.protocol import addresses

    facts = one.facts
    return {
        "provider": addresses.encode(one.provider),
        "name": facts.attribute("organization"),
        "region": facts.region,
        "gpu": one.gpu or None,
        "free": {
            "cpu_milli": one.free.cpu_milli,
            "memory_bytes": one.free.memory_bytes,
            "storage_bytes": one.free.storage_bytes,
            "gpu_units": one.free.gpu_units,
        },
        "price_per_hour_ucredit": one.price_per_hour,
        "attestations": facts.attestations,
        "audited_by": sorted(facts.audited_by),
        "latency_p95_ms": None if facts.latency is None else facts.latency.p95,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    free = row["free"]
    room = f"{free['cpu_milli'] / 1_000:g} CPUs, {size(free['memory_bytes'])}, {size(free['storage_bytes'])} disk"
    price = row["price_per_hour_ucredit"]
    return [
        row["name"] or row["provider"][:NAME],
        row["region"] or "-",
        row["gpu"] or "-",
        f"{free['gpu_units']} GPUs, {room}" if row["gpu"] else room,
        "-" if price is None else credits(price).removesuffix(" credits"),
        str(row["attestations"]) if row["attestations"] else "-",
    ]
