"""`fondaco provider pricing test` and `inventory`: what the bid engine would do and holds, without a node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import credits, json_option, print_json

if TYPE_CHECKING:
    from fondaco.node.bid_trial import Verdict
    from fondaco.provider.capacity import Load
    from fondaco.provider.inventory import Inventory

GIB = 2**30
provider_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The provider's folder, with its node.toml; its node need not run.",
)


@click.group()
def pricing() -> None:
    """Try what a provider would ask."""


@pricing.command("test")
@click.argument("order")
@provider_home
@click.option("--tenant", default="", metavar="ADDRESS", help="Who asks; for an SDL file, anybody unless given.")
@click.option(
    "--deposit", type=click.IntRange(min=0), help="Ucredit in escrow; for an SDL file, enough unless given."
)
@click.option("--empty", is_flag=True, help="As if nothing were promised or let.")
@json_option
def pricing_test(order: str, home: Path, tenant: str, deposit: int | None, empty: bool, as_json: bool) -> None:
    """Show what the provider would answer to ORDER, and how it comes to it.

    ORDER is an SDL file, a file with a signed order, or the start of the id of an order that its node heard.
    Attestations are not looked up: an order that asks for auditors is declined here.
    """
    from dataclasses import replace

    from fondaco.node import bid_trial, config
    from fondaco.node.cli.tenant import run
    from fondaco.node.tenant.auditing import local_aliases
    from fondaco.protocol import addresses
    from fondaco.protocol.scalars import MicroCredits

    node = config.load(home)
    told = bid_trial.settings(node)
    wish = bid_trial.read_wish(order, node, dict(local_aliases(home)))
    if tenant:
        wish = replace(wish, tenant=addresses.decode(tenant))
    if deposit is not None:
        wish = replace(wish, deposit=MicroCredits(deposit))
    inventory = told.agent.books() if empty else bid_trial.books(node, told)
    verdicts = [_plain(one) for one in run(bid_trial.judge, wish, told, inventory)]
    if as_json:
        print_json({"groups": verdicts})
    else:
        click.echo("\n".join(line for one in verdicts for line in _lines(one)))


def _plain(verdict: Verdict) -> dict[str, Any]:
    from fondaco.provider.bidding import BidPlan

    plan, asked = verdict.plan, verdict.group
    told: dict[str, Any] = {"group": asked.name, "max_price_per_hour_ucredit": asked.max_price_per_hour}
    if isinstance(plan, BidPlan):
        quote = plan.quote
        told |= {
            "answer": "bid",
            "price_per_hour_ucredit": plan.price_per_hour,
            "allocation": [{"unit": one.unit, "machine": one.node} for one in plan.allocation.shares],
            "gpus": {
                str(unit.id): [one.key for one in unit.resources.gpu_attributes]
                for unit in plan.units
                if unit.resources.gpu_units
            },
        }
    else:
        told |= {"answer": "decline"}
        found = plan.dear
        told["reasons"] = [
            {"dimension": one.dimension, "asked": one.asked, "available": one.available} for one in plan.reasons
        ]
        told["counter_offers"] = [
            {
                "change": one.change.name.lower(),
                "unit": one.unit,
                "subject": one.subject,
                "value": one.value,
                "price_per_hour_ucredit": one.price_per_hour,
                "text": str(one),
            }
            for one in verdict.counter_offers
        ]
        if found is None:
            return told
        quote = found
    told["parts_ucredit"] = {name: round(float(amount), 6) for name, amount in quote.parts}
    told["notes"] = list(quote.notes)
    return told


def _lines(told: dict[str, Any]) -> Iterator[str]:
    most = credits(told["max_price_per_hour_ucredit"])
    if told["answer"] == "bid":
        yield f"{told['group']}: bid {credits(told['price_per_hour_ucredit'])}/h, of at most {most}/h"
        counts: dict[tuple[int, str], int] = {}
        for share in told["allocation"]:
            place = (share["unit"], share["machine"])
            counts[place] = counts.get(place, 0) + 1
        for (unit, machine), count in counts.items():
            gpus = ", ".join(told["gpus"].get(str(unit), []))
            yield f"  {'unit ' + str(unit):<24} {count} x on {machine}" + (f", {gpus}" if gpus else "")
    else:
        yield f"{told['group']}: decline, of at most {most}/h"
        for reason in told["reasons"]:
            yield f"  {reason['dimension']:<24} asked {reason['asked']}, available {reason['available']}"
        for offer in told["counter_offers"]:
            yield f"  {'instead':<24} {offer['text']}"
    for name, amount in told.get("parts_ucredit", {}).items():
        yield f"  {name:<24} {amount:>16,.3f} ucredit/h"
    for note in told.get("notes", []):
        yield f"  {'note':<24} {note}"


@click.command()
@provider_home
@json_option
def inventory(home: Path, as_json: bool) -> None:
    """Show the provider's machines: what they have, what is promised to bids, let to leases, and free."""
    from fondaco.node import bid_trial, config

    node = config.load(home)
    told = bid_trial.settings(node)
    books = bid_trial.books(node, told)
    rows = list(_machines(books))
    held = [
        {
            "id": one.id.hex(),
            "tenant": _address(one.tenant),
            "state": "promised" if one.lease is None else "let",
            "machines": sorted(one.allocation.by_node()),
        }
        for one in books.reservations
    ]
    if as_json:
        print_json({"machines": rows, "held": held})
        return
    click.echo(f"{'machine':<16} {'resource':<20} {'total':>12} {'promised':>12} {'let':>12} {'free':>12}")
    for row in rows:
        for name, amounts in row["resources"].items():
            cells = " ".join(f"{_shown(name, amounts[key]):>12}" for key in ("total", "promised", "let", "free"))
            click.echo(f"{row['machine']:<16} {name:<20} {cells}")
    for one in held:
        click.echo(f"{one['state']:<9} {one['id'][:12]}  {one['tenant']}  on {', '.join(one['machines'])}")


def _address(key: Any) -> str:
    from fondaco.protocol import addresses

    return addresses.encode(key)


def _shown(name: str, amount: int) -> str:
    """CPUs, GiB, or GPUs."""
    if name == "cpu":
        return f"{amount / 1_000:g}"
    return str(amount) if name.startswith("gpu") else f"{amount / GIB:.4g} GiB"


def _machines(books: Inventory) -> Iterator[dict[str, Any]]:
    from fondaco.provider.capacity import Load

    free = books.free()
    for node in books.nodes:
        promised, let = Load(), Load()
        for one in books.reservations:
            load = one.allocation.by_node().get(node.name, Load())
            promised, let = (promised.plus(load), let) if one.lease is None else (promised, let.plus(load))
        columns = {"total": node.capacity, "promised": promised, "let": let, "free": free[node.name]}
        amounts = {key: _amounts(load) for key, load in columns.items()}
        yield {
            "machine": node.name,
            "resources": {
                name: {key: values.get(name, 0) for key, values in amounts.items()} for name in amounts["total"]
            },
        }


def _amounts(load: Load) -> dict[str, int]:
    found = {"cpu": load.cpu_milli, "memory": load.memory_bytes}
    found |= {f"storage {name or 'ephemeral'}": size for name, size in load.storage_bytes.items()}
    return found | {f"gpu {model.key.removeprefix('vendor/')}": units for model, units in load.gpus.items()}
