"""A command inside a workload: the `exec` call of a lease's channel, once it is open.

    tenant                                        provider
    Input, Resize, Signal, InputEnd         ->
                                            <-    Output, Output, ..., Exited

Every message is the data of one frame, so that the channel's credit holds each side to the pace at which the other
takes them: neither the client, nor the provider, nor the command's pipes ever hold more than a window. The command
has a terminal of its own if the request gives one its size; `Output` is then all of one stream, as on terminals.

The two readers here are sans-IO: each judges what its peer may say at this point and raises `PeerFault` for the
rest. Tags 139-145, of which some are others' too: these messages only follow each other on one stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault, Refused

EXEC = "exec"
STREAMS = ("out", "err")
SIGNALS = {1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2", 15: "TERM"}
"""Those that may be sent to a command, by Linux's numbers."""
CHUNK_BYTES = 64 * limits.KIB
"""What one `Input` or `Output` carries at most: large enough to be cheap, small enough to keep others moving."""
SIZE = range(1, 65_536)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSize:
    """Of a terminal, in characters."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """Runs a command inside one replica, confined as that is."""

    TAG: ClassVar[int] = 139
    service: str
    replica: int
    argv: tuple[bytes, ...]
    """The program, looked up in the workload's PATH, and its arguments."""
    env: tuple[bytes, ...] = field(repr=False)
    """`NAME=value`, over what the workload has; a client with a terminal passes its TERM here."""
    terminal: WindowSize | None
    """None: no terminal, and standard output and error come apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """For the command's standard input."""

    TAG: ClassVar[int] = 140
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEnd:
    """Nothing more comes for it: on a terminal, an end of file is typed."""

    TAG: ClassVar[int] = 141


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """The tenant's window has another size now."""

    TAG: ClassVar[int] = 142
    size: WindowSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """To the command's process group."""

    TAG: ClassVar[int] = 143
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    TAG: ClassVar[int] = 144
    stream: str
    """`out` or `err`; always `out` of a terminal."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The last message: 0..255, or 128 plus the signal that killed it; 126 and 127 as shells use them."""

    TAG: ClassVar[int] = 145
    code: int


FromTenant = Input | InputEnd | Resize | Signal
FromProvider = Output | Exited


def check(request: ExecRequest) -> None:
    """Raises `Refused` `exec.arguments`, `exec.environment` or `exec.terminal` for what no command may have."""
    argv, env, terminal = request.argv, request.env, request.terminal
    if not argv or not argv[0]:
        raise Refused("exec.arguments", "no command was given")
    if len(argv) > limits.EXEC_ARGUMENTS or sum(map(len, argv)) > limits.EXEC_ARGUMENT_BYTES:
        most = f"{limits.EXEC_ARGUMENTS} of {limits.EXEC_ARGUMENT_BYTES} bytes in all"
        raise Refused("exec.arguments", f"too many arguments, or too long: at most {most}", hint="send a file in")
    if any(b"\0" in word for word in argv):
        raise Refused("exec.arguments", "an argument holds a zero byte")
    if len(env) > limits.EXEC_VARIABLES or sum(map(len, env)) > limits.EXEC_VARIABLE_BYTES:
        most = f"{limits.EXEC_VARIABLES} of {limits.EXEC_VARIABLE_BYTES} bytes in all"
        raise Refused("exec.environment", f"too many variables, or too long: at most {most}")
    if any(entry.find(b"=") < 1 or b"\0" in entry for entry in env):
        raise Refused("exec.environment", "a variable is not NAME=value")
    if terminal is not None and not _possible(terminal):
        raise Refused("exec.terminal", f"a terminal of {terminal.columns} by {terminal.rows} characters")


def _possible(size: WindowSize) -> bool:
    return size.columns in SIZE and size.rows in SIZE


class CommandFeed:
    """The provider's side: what the tenant may say of the command it asked for."""

    def __init__(self, request: ExecRequest) -> None:
        self._terminal = request.terminal is not None
        self._ended = False

    def receive(self, data: bytes) -> FromTenant:
        """Read one message. Raises `PeerFault` `exec.sequence` or `exec.range`, or the codec's."""
        message: FromTenant = codec.decode_union(data, FromTenant)
        match message:
            case Input() | InputEnd() if self._ended:
                raise PeerFault("exec.sequence", "input came after its end")
            case InputEnd():
                self._ended = True
            case Resize() if not self._terminal:
                raise PeerFault("exec.sequence", "there is no terminal to resize")
            case Resize(size=size) if not _possible(size):
                raise PeerFault("exec.range", f"a terminal of {size.columns} by {size.rows} characters")
            case Signal(number=number) if number not in SIGNALS:
                raise PeerFault("exec.range", f"signal {number} is none that may be sent")
        return message


class CommandReport:
    """The tenant's side: output, then the exit code and nothing more."""

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def receive(self, data: bytes) -> FromProvider:
        """Read one message. Raises `PeerFault` `exec.sequence` or `exec.range`, or the codec's."""
        message: FromProvider = codec.decode_union(data, FromProvider)
        if self.exit_code is not None:
            raise PeerFault("exec.sequence", "something came after the exit code")
        match message:
            case Output(stream=stream) if stream not in STREAMS:
                raise PeerFault("exec.range", f"{stream[:20]!r} is no stream of output")
            case Exited(code=code):
                if not 0 <= code <= 255:
                    raise PeerFault("exec.range", f"{code} is no exit code")
                self.exit_code = code
        return message

    def end(self) -> int:
        """The provider says no more; the exit code. Raises `PeerFault` `exec.sequence` if it never came."""
        if self.exit_code is None:
            raise PeerFault("exec.sequence", "the call ended without an exit code")
        return self.exit_code
