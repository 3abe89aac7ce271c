"""Commands inside of pods: `exec` over a WebSocket, `v5.channel.k8s.io` where the server speaks it.

Channels: 0 input, 1 output, 2 errors, 3 how it ended, 4 the terminal's size, 255 that a channel has ended (v5).

The interface takes no variables, sends no signals, and lets a command go on whose connection is gone. So a command
is begun by the image's `env`, with a mark among its variables; what bears the mark is found, and killed, by the
image's `sh`. An image without them runs commands as well, without variables, and they end by themselves.
"""

from __future__ import annotations

import json
import secrets
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from fondaco.protocol.channel_exec import WindowSize
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import KIB
from fondaco.provider.runtimes.kubernetes.client import ApiServer
from fondaco.provider.runtimes.kubernetes.names import CONTAINER
from fondaco.provider.runtimes.kubernetes.websocket import Socket, connect
from fondaco.provider.runtimes.port import AWAY, Channel, Command

INPUT, OUTPUT, ERRORS, STATUS, SIZE, CLOSED = 0, 1, 2, 3, 4, 255
V5 = "v5.channel.k8s.io"
PROTOCOLS = (V5, "v4.channel.k8s.io")
END_OF_FILE = b"\x04"
KEPT_BYTES = 256 * KIB
"""Of one channel while nobody asks for it; with that much, the other has to wait as well."""
STATUS_BYTES = 64 * KIB
NOT_FOUND = 127
KILL_S = 10.0
MARK = "FONDACO_COMMAND"
KILL = 'for one in /proc/[0-9]*; do grep -aqs "$0" $one/environ && kill -"$1" "${one#/proc/}"; done; true'


class PodCommand:
    """One command under way.  Implements `port.Execution`."""

    def __init__(self, socket: Socket, *, terminal: bool) -> None:
        self._socket = socket
        self._terminal = terminal
        self._kept: dict[Channel, deque[bytes]] = {channel: deque() for channel in Channel}
        self._status = bytearray()
        self._ended = False
        self._reading = False
        self._changed = trio.Event()
        self._waiting = trio.CancelScope()
        """For the next message."""
        self._sizes: deque[WindowSize] = deque(maxlen=1)
        self.kill: Callable[[int], Awaitable[None]] | None = None
        """Sends a signal to all that it has started, where the image lets us."""

    # --- Input

    async def send(self, data: bytes) -> None:
        """What it does not want any more is dropped."""
        await self._say(INPUT, data)

    async def end_input(self) -> None:
        """Before v5 there is no word for it but on a terminal: the command waits for more until it is killed."""
        if self._terminal:
            await self._say(INPUT, END_OF_FILE)
        elif self._socket.protocol == V5:
            await self._say(CLOSED, bytes([INPUT]))

    async def signal(self, number: int) -> None:
        if self.kill is not None:
            await self.kill(number)

    def resize(self, size: WindowSize) -> None:
        """Whoever waits for output tells it: there is no waiting here."""
        self._sizes.append(size)
        self._waiting.cancel()

    async def _say(self, channel: int, data: bytes) -> None:
        await self._tell_size()
        try:
            await self._socket.send(channel, data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.lowlevel.checkpoint()

    async def _tell_size(self) -> None:
        if self._sizes:
            size = self._sizes.popleft()
            told = json.dumps({"Width": size.columns, "Height": size.rows}).encode()
            try:
                await self._socket.send(SIZE, told)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.lowlevel.checkpoint()

    # --- Output

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel.OUT,) if self._terminal else (Channel.OUT, Channel.ERR)

    async def receive(self, channel: Channel) -> bytes:
        """The next output; empty once it has ended."""
        await trio.lowlevel.checkpoint()
        while not self._kept[channel] and not self._ended:
            await self._turn()
        if not self._kept[channel]:
            return b""
        self._ring()
        return self._kept[channel].popleft()

    async def wait(self) -> int:
        """Its exit code.  Raises `Unreachable` `AWAY` where the connection broke off before it was told."""
        while not self._ended:
            await self._turn()
        return exit_code(bytes(self._status))

    async def aclose(self) -> None:
        """Of the connection: the command goes on."""
        await self._socket.aclose()

    async def _turn(self) -> None:
        """Read one message, or wait for whoever does, or until there is room."""
        full = any(sum(map(len, kept)) > KEPT_BYTES for kept in self._kept.values())
        if self._reading or full:
            await self._changed.wait()
            return
        self._reading = True
        try:
            await self._tell_size()
            with trio.CancelScope() as self._waiting:
                self._take(await self._socket.receive())
        except trio.BrokenResourceError:
            self._ended = True
        finally:
            self._reading = False
            self._ring()

    def _take(self, message: tuple[int, bytes] | None) -> None:
        if message is None:
            self._ended = True
            return
        channel, data = message
        if channel == STATUS:
            self._status += data[: STATUS_BYTES - len(self._status)]
            self._ended = self._ended or _is_whole(bytes(self._status))
        elif data and channel in (OUTPUT, ERRORS):
            self._kept[Channel.OUT if channel == OUTPUT else Channel.ERR].append(data)

    def _ring(self) -> None:
        rung, self._changed = self._changed, trio.Event()
        rung.set()


def _is_whole(status: bytes) -> bool:
    try:
        json.loads(status)
    except ValueError:
        return False
    return True


def exit_code(status: bytes) -> int:
    """As the last word on a command has it.  Raises `Unreachable` `AWAY` for none, `Refused` `workload.exec`."""
    try:
        said = json.loads(status)
    except ValueError:
        raise Unreachable(AWAY, "the connection to the command broke off") from None
    if said.get("status") == "Success":
        return 0
    if said.get("reason") == "NonZeroExitCode":
        for cause in (said.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdigit():
                return int(cause["message"]) & 0xFF
    told = str(said.get("message") or "it did not start")
    if is_not_found(told):
        return NOT_FOUND
    raise Refused("workload.exec", told[:500])


def is_not_found(told: str) -> bool:
    """Whether a container runtime says that there is no such program: each has its own words for it."""
    return any(
        words in told for words in ("executable file not found", "no such file or directory", "not found in")
    )


@asynccontextmanager
async def executing(api: ApiServer, namespace: str, pod: str, command: Command) -> AsyncIterator[PodCommand]:
    """Run a command; leaving the block kills whatever is left of it."""
    mark, marked = f"{MARK}={secrets.token_hex(8)}", await _has_env(api, namespace, pod)
    if command.env and not marked:
        raise Refused("workload.exec", "the image has no `env`, which commands with variables want here")
    begun = [b"env", mark.encode(), *command.env, *command.argv] if marked else list(command.argv)
    running = await _open(api, namespace, pod, begun, terminal=command.terminal is not None)
    if marked:
        running.kill = partial(_kill, api, namespace, pod, mark)
    if command.terminal is not None:
        running.resize(command.terminal)
    try:
        yield running
    finally:
        with trio.move_on_after(KILL_S) as scope:
            scope.shield = True
            await running.aclose()
            if marked:
                await _kill(api, namespace, pod, mark, signal.SIGKILL)


async def _has_env(api: ApiServer, namespace: str, pod: str) -> bool:
    try:
        return (await run(api, namespace, pod, ["env"]))[0] == 0
    except Refused as error:
        if error.code != "workload.exec":
            raise
        return False


async def _open(
    api: ApiServer, namespace: str, pod: str, argv: list[bytes], *, terminal: bool, input_: bool = True
) -> PodCommand:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
    flags = {"stdin": input_, "stdout": True, "stderr": not terminal, "tty": terminal}
    params = [("container", CONTAINER), *((name, str(value).lower()) for name, value in flags.items())]
    words = [("command", word.decode("utf-8", "surrogateescape")) for word in argv]
    return PodCommand(await connect(api, path, [*params, *words], PROTOCOLS), terminal=terminal)


async def _kill(api: ApiServer, namespace: str, pod: str, mark: str, number: int) -> None:
    """Send a signal to all that bear the mark; a pod that is gone, or has no shell, has nobody to send it to."""
    argv = [b"sh", b"-c", KILL.encode(), mark.encode(), str(number).encode()]
    try:
        killing = await _open(api, namespace, pod, argv, terminal=False, input_=False)
        try:
            await killing.wait()
        finally:
            await killing.aclose()
    except (Refused, Unreachable):
        await trio.lowlevel.checkpoint()


async def run(api: ApiServer, namespace: str, pod: str, argv: list[str]) -> tuple[int, bytes]:
    """A small command of our own, to its end, without input: its exit code and its output, which is short."""
    words = [word.encode() for word in argv]
    running = await _open(api, namespace, pod, words, terminal=False, input_=False)
    out = bytearray()
    try:
        while data := await running.receive(Channel.OUT):
            out += data[: STATUS_BYTES - len(out)]
        return await running.wait(), bytes(out)
    finally:
        await running.aclose()
