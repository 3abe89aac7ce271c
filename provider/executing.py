"""The provider's side of an `exec` call: a command's streams over the channel, each at the other side's pace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import trio

from fondaco.protocol import codec, limits
from fondaco.protocol.channel_exec import CommandFeed, ExecRequest, Exited, Input, InputEnd, Output, Resize, Signal
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.duplex import Duplex
from fondaco.provider.runtimes.port import Channel, Execution
from fondaco.provider.together import run_all


class Places:
    """How many commands run at once, for each lease and in all."""

    def __init__(self) -> None:
        self._taken: Counter[LeaseId] = Counter()

    @contextmanager
    def one(self, lease: LeaseId) -> Iterator[None]:
        """Hold a place. Raises `Refused` `exec.busy`."""
        if self._taken[lease] >= limits.EXECS_PER_LEASE:
            raise Refused("exec.busy", f"{limits.EXECS_PER_LEASE} commands run in this lease already")
        if self._taken.total() >= limits.EXECS:
            raise Refused(
                "exec.busy", f"{limits.EXECS} commands run at this provider already", hint="try again soon"
            )
        self._taken[lease] += 1
        try:
            yield
        finally:
            self._taken[lease] -= 1
            if not self._taken[lease]:
                del self._taken[lease]


async def carry(execution: Execution, request: ExecRequest, duplex: Duplex) -> int:
    """Carry input, sizes and signals in and output out, until the command has ended; its exit code.

    Raises what breaks the call: whoever called then leaves the command's block, which kills it.
    """
    code: int | None = None

    async def see_it_end() -> None:
        nonlocal code
        await run_all(partial(_send_output, execution, channel, duplex) for channel in execution.channels)
        code = await execution.wait()
        over.cancel()  # whatever input may still come

    with trio.CancelScope() as over:
        await run_all((see_it_end, partial(_take_input, execution, CommandFeed(request), duplex)))
    assert code is not None, "cancelled only when it has ended"
    return code


async def tell_exit(code: int, duplex: Duplex) -> None:
    await duplex.send(codec.encode(Exited(code=code)))


async def _send_output(execution: Execution, channel: Channel, duplex: Duplex) -> None:
    while data := await execution.receive(channel):
        await duplex.send(codec.encode(Output(stream=channel.value, data=data)))


async def _take_input(execution: Execution, feed: CommandFeed, duplex: Duplex) -> None:
    while (said := await duplex.receive()) is not None:
        match feed.receive(said):
            case Input(data=data):
                await execution.send(data)
            case InputEnd():
                await execution.end_input()
            case Resize(size=size):
                execution.resize(size)
            case Signal(number=number):
                await execution.signal(number)
