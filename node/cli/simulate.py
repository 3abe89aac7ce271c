"""`fondaco simulate`: whole networks in one process, with every fault there is, from one number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import say

if TYPE_CHECKING:
    from fondaco.node.simulation.profiles import Outcome, Task

PROFILES = ("safety", "liveness", "byzantine")


class Seeds(click.ParamType[range]):
    """`A..B`, both included."""

    name = "A..B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> range:
        if isinstance(value, range):
            return value
        first, dots, last = str(value).partition("..")
        if not (dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            self.fail("seeds are given as FIRST..LAST, as in 1..100", param, ctx)
        return range(int(first), int(last) + 1)


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="Run this seed alone.")
@click.option(
    "--seeds", type=Seeds(), default="1..10", show_default=True, help="Run these seeds, both ends included."
)
@click.option(
    "--nodes", type=click.IntRange(1, 100), default=4, show_default=True, help="How many validators there are."
)
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="safety",
    show_default=True,
    help="safety: anything goes; liveness: in turns with calm in which a core must decide; byzantine: with liars.",
)
@click.option(
    "--heights",
    type=click.IntRange(1, 100_000),
    default=60,
    show_default=True,
    help="How many blocks are decided while faults strike.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0, 1_000, min_open=True),
    help="Simulated hours for which faults strike, instead of a number of blocks.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), help="How many processes share the seeds.  [default: one for each core]"
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a seed, each on its line, when it is done."
)
@click.pass_context
def simulate(
    ctx: click.Context,
    seed: int | None,
    seeds: range,
    nodes: int,
    profile: str,
    heights: int,
    hours: float | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Run the real engine, ledger and codec in seeded worlds full of faults, and check all that must hold.

    The same seed gives the same run on every machine. A seed ends when its blocks are decided, the network has
    healed, everybody has caught up and the chain was counted anew. Exit code 1 if anything was violated; then the
    command that replays it is printed.
    """
    from fondaco.node.simulation.profiles import Profile, Task

    chosen = seeds if seed is None else range(seed, seed + 1)
    tasks = [
        Task(seed=each, profile=Profile(profile), nodes=nodes, heights=heights, hours=hours) for each in chosen
    ]
    workers = min(jobs or os.cpu_count() or 1, len(tasks))
    say(f"{len(tasks)} seeds of {profile}, {nodes} validators, {workers} at a time")
    failed, done = 0, 0
    try:
        with outcomes(tasks, workers) as finished:
            for outcome in finished:
                done += 1
                failed += bool(outcome.violations)
                _show(outcome, as_json)
    except KeyboardInterrupt:
        say(f"stopped after {done} of {len(tasks)} seeds, {failed} of them violated something")
        ctx.exit(130)
    say(f"{done} seeds, {failed} of them violated something")
    ctx.exit(1 if failed else 0)


@contextmanager
def outcomes(tasks: list[Task], workers: int) -> Iterator[Iterator[Outcome]]:
    """What comes of each, in order; processes that still run at the end of the block are stopped."""
    from fondaco.node.simulation.profiles import run

    if workers == 1:
        yield map(run, tasks)
        return
    import multiprocessing

    # A fresh interpreter each: nothing of this process leaks into a run.
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_leave_signals_to_the_parent) as pool:
        yield pool.imap(run, tasks)


def _leave_signals_to_the_parent() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _show(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(outcome.to_json()))
    else:
        struck = sum(outcome.faults.values())
        click.echo(
            f"seed {outcome.task.seed:<8} {outcome.heights:>5} heights {outcome.simulated_hours:>9.4f} h"
            f" {outcome.wall_s:>8.1f} s {struck:>8} faults  {'VIOLATED' if outcome.violations else 'ok'}"
        )
    for violation in outcome.violations:
        say(f"seed {outcome.task.seed}: {violation}\n  replay: {outcome.task.command}")
