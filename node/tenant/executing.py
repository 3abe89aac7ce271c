"""A command that runs inside a workload, as its tenant holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from fondaco.protocol import codec
from fondaco.protocol.channel_exec import (
    CHUNK_BYTES,
    CommandReport,
    ExecRequest,
    Exited,
    FromTenant,
    Input,
    InputEnd,
    Output,
    Resize,
    Signal,
    WindowSize,
)
from fondaco.protocol.errors import FondacoError
from fondaco.provider.duplex import Duplex


class RunningCommand:
    """One command under way; made by `LeaseHandle.exec`.

    Iterate over its output, from one task; the other methods may be called from any. Whatever is not taken holds
    the command up, and what it does not take holds `send` up. Any call may be cancelled: nothing is half sent.
    All raise what broke the call off: `Unreachable`, or the `Refused` of the provider, as when the lease ends.
    """

    def __init__(self, duplex: Duplex, request: ExecRequest) -> None:
        self.on_terminal = request.terminal is not None
        self._duplex = duplex
        self._report = CommandReport()
        self._input_ended = False

    @property
    def exit_code(self) -> int | None:
        """0..255, or 128 plus the signal that killed it; None while it runs or if nobody could say."""
        return self._report.exit_code

    async def send(self, data: bytes) -> None:
        """To its standard input, at the pace at which it reads. What it does not want any more is dropped."""
        for start in range(0, len(data), CHUNK_BYTES):
            await self._say(Input(data=data[start : start + CHUNK_BYTES]))

    async def end_input(self) -> None:
        """It sees the end of its input; a second time does nothing."""
        if not self._input_ended:
            self._input_ended = True
            await self._say(InputEnd())

    async def resize(self, size: WindowSize) -> None:
        """Of the terminal that it was given."""
        await self._say(Resize(size=size))

    async def signal(self, number: int) -> None:
        """Send a signal to its process group: one of `channel_exec.SIGNALS`."""
        await self._say(Signal(number=number))

    async def _say(self, message: FromTenant) -> None:
        if self.exit_code is not None:
            await trio.lowlevel.checkpoint()
            return
        await self._duplex.send(codec.encode(message))

    def __aiter__(self) -> AsyncIterator[Output]:
        return self

    async def __anext__(self) -> Output:
        """The next output. Raises `PeerFault` for a provider that breaks the rules."""
        data = await self._duplex.receive()
        if data is None:
            self._report.end()
            raise StopAsyncIteration
        try:
            message = self._report.receive(data)
        except FondacoError as error:
            await self._duplex.fail(error)
            raise
        if isinstance(message, Exited):
            await self._duplex.end()  # the provider waits for that
            return await self.__anext__()
        return message

    async def wait(self) -> int:
        """Let it run to its end, its output dropped; its exit code."""
        async for _ in self:
            pass
        return self._report.end()

    async def aclose(self) -> None:
        """Leave it: if it still runs, its provider kills it."""
        await self._duplex.aclose()
