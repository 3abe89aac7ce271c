"""Doing several things at once where the first thing that goes wrong is what the caller should hear."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from fondaco.protocol.errors import FondacoError


async def run_all(tasks: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run all tasks; the first error cancels the others and is raised by itself, not in a group."""
    first: list[FondacoError] = []

    async with trio.open_nursery() as nursery:

        async def one(task: Callable[[], Awaitable[object]]) -> None:
            try:
                await task()
            except FondacoError as error:
                first.append(error)
                nursery.cancel_scope.cancel()

        for task in tasks:
            nursery.start_soon(one, task)
    if first:
        raise first[0]
