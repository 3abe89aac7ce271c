"""Memory that is free goes back to the system, so that a flood's is not held until the node stops.

glibc takes a large block from the system and gives it back when it is freed. But once one was freed it serves
blocks up to that size from its heap, up to 32 MiB, and a heap shrinks from its end only: a few frames of 4 MiB, as
anybody may send them, left a node a fifth larger for good (154 MB instead of 129; with these settings 138).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import trio

from fondaco.protocol import limits

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of mallopt(3)."""
LARGE_BYTES = 256 * limits.KIB
"""Blocks from this size on always come from the system; setting it ends the habit described above."""
SPARE_BYTES = 1 * limits.MIB
TRIM_S = 10
ARENAS = 2
"""Heaps of threads; by default there may be eight for each processor, each with free memory of its own."""


def c_function(name: str) -> Callable[..., int] | None:
    """Of the C library we run on, or None: `mallopt` and `malloc_trim` are glibc's."""
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return found


def return_freed_memory() -> bool:
    """Have this process give back what it frees; whether its C library can be told so."""
    mallopt = c_function("mallopt")
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, LARGE_BYTES), (M_TRIM_THRESHOLD, SPARE_BYTES), (M_ARENA_MAX, ARENAS))
    return all(mallopt(what, value) == 1 for what, value in settings)


async def keep_small() -> None:
    """Every `TRIM_S` give back the free pages between those in use, too; until cancelled."""
    trim = c_function("malloc_trim")
    if trim is None:
        return
    while True:
        await trio.sleep(TRIM_S)
        trim(SPARE_BYTES)
