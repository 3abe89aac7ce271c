"""Commands run inside a workload: the provider's end of `enter`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds, seccomp
from fondaco.provider.runtimes.port import ExecResult
from fondaco.provider.runtimes.processes import Process

ENTER = Path(__file__).with_name("enter.py")


async def run_inside(target: Process, run_dir: Path, argv: Sequence[str], timeout_ms: int) -> ExecResult:
    """Run `argv` in the namespaces of `target`.  Raises `Refused` `workload.timeout`."""
    if not argv:
        raise Refused("workload.exec", "no command was given")
    request = {
        **json.loads((run_dir / "exec.json").read_bytes()),
        "argv": list(argv),
        "seccomp": seccomp.program(seccomp.machine()).hex(),
    }
    process = await trio.lowlevel.open_process(
        [sys.executable, "-I", "-S", str(ENTER), str(target.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    )
    async with _Running(process, json.dumps(request).encode()) as running:
        with trio.move_on_after(timeout_ms / 1000):
            return await running.finish()
    raise Refused("workload.timeout", f"{argv[0]!r} did not end within {timeout_ms} ms")


class _Running:
    """A command under way, its output kept up to a bound."""

    def __init__(self, process: trio.Process, stdin: bytes) -> None:
        self._process = process
        self._stdin = stdin
        self._truncated = False

    async def __aenter__(self) -> _Running:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
            for stream in (self._process.stdout, self._process.stderr, self._process.stdin):
                if stream is not None:
                    await stream.aclose()

    async def finish(self) -> ExecResult:
        streams: list[bytearray] = [bytearray(), bytearray()]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, self._process.stdout, streams[0])
            nursery.start_soon(self._keep, self._process.stderr, streams[1])
            with contextlib.suppress(trio.BrokenResourceError):  # it ended early, and says why on standard error
                await self._process.stdin.send_all(self._stdin)
            await self._process.stdin.aclose()
        code = await self._process.wait()
        out, err = (bytes(stream) for stream in streams)
        return ExecResult(exit_code=128 - code if code < 0 else code, out=out, err=err, truncated=self._truncated)

    async def _keep(self, stream: trio.abc.ReceiveStream, kept: bytearray) -> None:
        async for chunk in stream:
            room = bounds.WORKLOAD_EXEC_OUTPUT_BYTES - len(kept)
            kept += chunk[:room]
            self._truncated = self._truncated or len(chunk) > room
