"""`fondaco latency`: how fast providers answer, measured from here, and what is known from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, moment, print_json, progress, say
from fondaco.node.tenant.bounds import LATENCY_PROBES, LATENCY_PROVIDERS, LATENCY_SAMPLES

if TYPE_CHECKING:
    from fondaco.node.tenant.light import LightClient
    from fondaco.node.tenant.probing import Probed, Target
    from fondaco.node.tenant.vantages import Measured, Vantage
    from fondaco.protocol.scalars import PublicKey

HERE = "here"
"""As `vantages.HERE`, which would load the network to show a help text."""


@click.group()
def latency() -> None:
    """Measure how fast providers answer, and show what is known of that.

    What is counted are round trips over the encrypted connection that a workload's channel takes. `fondaco deploy`
    measures by itself whoever bids, where --select or --where ask for latency.
    """


@latency.command()
@click.argument("providers", metavar="[PROVIDER...]", nargs=-1)
@click.option(
    "--where", default="", metavar="QUERY", help="Only providers like this: 'region = eu-* and audited'."
)
@click.option(
    "--samples",
    type=click.IntRange(1, LATENCY_SAMPLES),
    default=LATENCY_PROBES,
    show_default=True,
    help="Round trips to each, 50 ms apart.",
)
@click.option("--vantage", metavar="NAME", default=HERE, show_default=True, help="What this place is called.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a vantage file, for `fondaco deploy --vantage` elsewhere.",
)
@home_option
@json_option
def measure(
    providers: tuple[str, ...], where: str, samples: int, vantage: str, out: Path | None, home: Path, as_json: bool
) -> None:
    """Measure these providers, or all that are registered.

    A probe that is not answered within two seconds is lost, and counts as slower than any other; who cannot be
    reached has lost all. The home keeps the newest samples of a week.
    """
    from fondaco.node.cli.tenant import run
    from fondaco.node.tenant.vantages import check_name
    from fondaco.protocol import addresses

    if out is not None and vantage == HERE:
        raise click.UsageError("--out needs --vantage NAME: elsewhere, `here` is another place")
    check_name(vantage)
    keys = [addresses.decode(one) for one in providers]
    run(_measure, keys, where, samples, vantage, out, home, as_json)


@latency.command()
@click.argument("files", metavar="[FILE...]", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@home_option
@json_option
def show(files: tuple[Path, ...], home: Path, as_json: bool) -> None:
    """Show what this home has measured, and what vantage files say; nobody is asked.

    A FILE that `fondaco deploy --vantage` would not take is refused as it would be there.
    """
    from fondaco.node import clock
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant import vantages
    from fondaco.node.tenant.latency_memory import LatencyMemory
    from fondaco.protocol.errors import Refused

    memory = LatencyMemory(home, read_genesis(home / "genesis.json").chain)
    found: list[tuple[Vantage, Path]] = []
    damaged: list[Refused] = []
    for name in memory.names():
        try:
            found.append((memory.load(name, now=clock.now()), memory.path(name)))
        except Refused as refusal:  # the others are as good as before
            damaged.append(refusal)
    brought = [(vantages.read(file, now=clock.now()), file) for file in files]
    vantages.check_chain([one for one, _ in brought], memory.chain)
    told = [_vantage(vantage, path) for vantage, path in (*found, *brought)]
    if as_json:
        print_json({"chain": memory.chain, "vantages": told, "damaged": [one.message for one in damaged]})
    else:
        lines = [line for one in told for line in (f"from {one['vantage']}:", *_table(one["providers"]))]
        click.echo("\n".join(lines or ["nothing was measured yet: fondaco latency measure"]))
    if damaged:
        raise damaged[0]


async def _measure(
    keys: Sequence[PublicKey],
    where: str,
    samples: int,
    name: str,
    out: Path | None,
    home: Path,
    as_json: bool,
) -> None:
    from fondaco.node import clock
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant.connection import open_light
    from fondaco.node.tenant.latency_memory import LatencyMemory
    from fondaco.node.tenant.probing import probe_all
    from fondaco.protocol import addresses
    from fondaco.protocol.errors import Refused

    probed: list[Probed] = []
    async with open_light(home, read_genesis(home / "genesis.json")) as light:
        memory = LatencyMemory(home, light.chain)
        targets = await _targets(light, keys, where, home)
        await light.cross_check()
        if not targets:
            raise Refused("latency.nobody", "no provider is like that", hint="ask for less in --where")
        tell = progress("measured")

        def done(one: Probed) -> None:
            probed.append(one)
            tell(len(probed), len(targets))
            if one.error:
                say(f"{addresses.encode(one.target.provider)} was not reached: {one.error}")

        await probe_all(light, targets, samples, done)
    measured = {one.target.provider: one.measured for one in probed}
    kept = memory.add(name, measured, now=clock.now())
    if out is not None:
        _write_out(out, replace(kept, providers={key: kept.providers[key] for key in sorted(measured)}))
        say(f"{out} holds what is known of them from {name}")
    rows = _rows(measured)
    if as_json:
        print_json({"chain": memory.chain, "vantage": name, "providers": rows})
    else:
        click.echo("\n".join(_table(rows)))


async def _targets(light: LightClient, keys: Sequence[PublicKey], where: str, home: Path) -> list[Target]:
    """Where those named, or all that are like that, are reached, by the ledger."""
    import trio

    from fondaco.node.tenant.probing import registered
    from fondaco.protocol.errors import Refused

    wanted = list(dict.fromkeys(keys)) or (await light.providers())[:LATENCY_PROVIDERS]
    if where:
        wanted = await _matching(light, wanted, where, home)
    found: list[Target] = []

    async def look(key: PublicKey) -> None:
        try:
            found.append(await registered(light, key))
        except Refused:
            if keys:
                raise  # else a node made it up

    async with trio.open_nursery() as nursery:
        for key in wanted:
            nursery.start_soon(look, key)
    return sorted(found, key=lambda one: one.provider)


async def _matching(light: LightClient, keys: Sequence[PublicKey], where: str, home: Path) -> list[PublicKey]:
    from fondaco.node.tenant import auditing, knowledge
    from fondaco.protocol.errors import Refused
    from fondaco.protocol.query import PROVIDERS, fields_of, matches, parse
    from fondaco.protocol.selection.facts import LATENCY, ProviderSubject

    query = parse(where, PROVIDERS)
    if any(name.startswith(LATENCY) for name in fields_of(query)):
        raise Refused("latency.where", "whom to measure cannot depend on what is measured")
    names = dict((*light.genesis.auditors, *auditing.local_aliases(home)))
    known = await knowledge.gather(light, keys, names=names)
    return [key for key in keys if matches(query, ProviderSubject(key, known.of(key)))]


def _write_out(path: Path, vantage: Vantage) -> None:
    """Raises `Refused` `latency.disk`."""
    from fondaco.node.files import write_atomically
    from fondaco.node.tenant.vantages import to_bytes
    from fondaco.protocol.errors import Refused

    try:
        write_atomically(path, to_bytes(vantage), mode=0o644)
    except OSError as error:
        raise Refused("latency.disk", f"{path}: {error.strerror}") from None


def _rows(providers: Mapping[PublicKey, Measured]) -> list[dict[str, Any]]:
    """The fastest first; those of which too much was lost come last."""
    from fondaco.protocol import addresses

    found = [(one.latency(), key, one) for key, one in providers.items()]
    found.sort(key=lambda row: (row[0].p95 is None, row[0].p95 or 0, row[0].lost, row[1]))
    return [
        {
            "provider": addresses.encode(key),
            "peer": one.peer,
            "p50_ms": figures.p50,
            "p95_ms": figures.p95,
            "p99_ms": figures.p99,
            "samples": figures.samples,
            "lost": figures.lost,
            "measured_at": moment(one.at),
        }
        for figures, key, one in found
    ]


def _vantage(vantage: Vantage, path: Path) -> dict[str, Any]:
    return {
        "vantage": vantage.name,
        "file": str(path),
        "measured_at": None if vantage.at is None else moment(vantage.at),
        "providers": _rows(vantage.providers),
    }


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people; `lost` where so many were that there is no such figure."""
    if not rows:
        return ["nobody was measured lately"]
    width = max(len(row["provider"]) for row in rows)
    lines = [f"{'provider':<{width}} {'p50':>8} {'p95':>8} {'p99':>8}  {'lost':<10} measured"]
    for row in rows:
        figures = (row[name] for name in ("p50_ms", "p95_ms", "p99_ms"))
        p50, p95, p99 = ("lost" if one is None else f"{one} ms" for one in figures)
        lost = f"{row['lost']} of {row['samples']}"
        lines.append(f"{row['provider']:<{width}} {p50:>8} {p95:>8} {p99:>8}  {lost:<10} {row['measured_at']}")
    return lines
