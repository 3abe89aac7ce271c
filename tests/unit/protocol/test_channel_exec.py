"""What may be said of a command inside a workload, and when."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol import channel_exec as exec_
from fondaco.protocol import codec, limits
from fondaco.protocol.channel_exec import (
    CommandFeed,
    CommandReport,
    ExecRequest,
    Exited,
    Input,
    InputEnd,
    Output,
    Resize,
    Signal,
    WindowSize,
)
from fondaco.protocol.channel_frames import DATA_BYTES
from fondaco.protocol.errors import PeerFault, Refused

SMALL = WindowSize(columns=80, rows=24)


def request(*argv: bytes, env: tuple[bytes, ...] = (), terminal: WindowSize | None = None) -> ExecRequest:
    return ExecRequest(service="web", replica=0, argv=argv or (b"ls",), env=env, terminal=terminal)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (ExecRequest(service="web", replica=0, argv=(), env=(), terminal=None), "exec.arguments"),
        (request(b""), "exec.arguments"),
        (request(b"ls", b"a\0b"), "exec.arguments"),
        (request(*[b"x"] * (limits.EXEC_ARGUMENTS + 1)), "exec.arguments"),
        (request(b"echo", bytes(limits.EXEC_ARGUMENT_BYTES)), "exec.arguments"),
        (request(env=(b"NAME",)), "exec.environment"),
        (request(env=(b"=value",)), "exec.environment"),
        (request(env=(b"A=\0",)), "exec.environment"),
        (request(env=(b"A=" + bytes(limits.EXEC_VARIABLE_BYTES),)), "exec.environment"),
        (request(env=(b"A=b",) * (limits.EXEC_VARIABLES + 1)), "exec.environment"),
        (request(terminal=WindowSize(columns=0, rows=24)), "exec.terminal"),
        (request(terminal=WindowSize(columns=80, rows=65_536)), "exec.terminal"),
    ],
)
def test_what_no_command_may_have_is_refused(asked: ExecRequest, code: str) -> None:
    with pytest.raises(Refused) as error:
        exec_.check(asked)
    assert error.value.code == code


@pytest.mark.parametrize("terminal", [None, SMALL])
def test_an_ordinary_command_is_not_refused(terminal: WindowSize | None) -> None:
    asked = request(b"sh", b"-c", b"", "ü\udc80".encode("utf-8", "surrogateescape"), env=(b"A=", b"B=c=d"))
    exec_.check(asked)
    assert codec.decode(codec.encode(asked), ExecRequest) == asked


def test_a_tenant_sends_input_sizes_and_signals_and_then_no_more_input() -> None:
    feed = CommandFeed(request(terminal=SMALL))
    said = [
        Input(data=b"x"),
        Resize(size=SMALL),
        Signal(number=2),
        InputEnd(),
        Resize(size=SMALL),
        Signal(number=15),
    ]
    assert [feed.receive(codec.encode(one)) for one in said] == said
    for late in (Input(data=b"y"), InputEnd()):
        with pytest.raises(PeerFault, match=r"exec\.sequence"):
            feed.receive(codec.encode(late))


@pytest.mark.parametrize(
    ("said", "terminal", "code"),
    [
        (Resize(size=SMALL), None, "exec.sequence"),
        (Resize(size=WindowSize(columns=1, rows=0)), SMALL, "exec.range"),
        (Signal(number=19), None, "exec.range"),
        (Output(stream="out", data=b""), None, "codec.type"),
    ],
)
def test_what_no_honest_tenant_sends_is_its_fault(said: object, terminal: WindowSize | None, code: str) -> None:
    with pytest.raises(PeerFault) as error:
        CommandFeed(request(terminal=terminal)).receive(codec.encode(said))
    assert error.value.code == code


def test_a_provider_sends_output_and_last_the_exit_code() -> None:
    report = CommandReport()
    said = [Output(stream="out", data=b"x"), Output(stream="err", data=b"y"), Exited(code=137)]
    assert [report.receive(codec.encode(one)) for one in said] == said
    assert report.end() == 137
    with pytest.raises(PeerFault, match=r"exec\.sequence"):
        report.receive(codec.encode(said[0]))


@pytest.mark.parametrize("said", [Output(stream="log", data=b""), Exited(code=256)])
def test_what_no_honest_provider_sends_is_its_fault(said: object) -> None:
    with pytest.raises(PeerFault, match=r"exec\.range"):
        CommandReport().receive(codec.encode(said))


def test_a_call_that_ends_without_an_exit_code_is_the_providers_fault() -> None:
    with pytest.raises(PeerFault, match=r"exec\.sequence"):
        CommandReport().end()


def test_a_chunk_of_either_direction_fits_a_frame() -> None:
    chunk = bytes(exec_.CHUNK_BYTES)
    for said in (Input(data=chunk), Output(stream="out", data=chunk)):
        assert len(codec.encode(said)) <= DATA_BYTES


@given(st.binary(max_size=100))
def test_no_bytes_reach_an_assertion(data: bytes) -> None:
    for reader in (CommandFeed(request()), CommandFeed(request(terminal=SMALL)), CommandReport()):
        with contextlib.suppress(PeerFault):
            reader.receive(data)
