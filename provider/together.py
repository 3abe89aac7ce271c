"""Small helpers over trio: errors that arrive one by one, iterators that are closed when left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from fondaco.protocol.errors import FondacoError

T = TypeVar("T")


@asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close `items` at the end of the block if they are of the kind that wants it, as async generators are."""
    try:
        yield items
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


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
