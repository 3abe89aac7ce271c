"""Running the operator's pricing program: one process a price, with a deadline, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from fractions import Fraction

import trio

from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey
from fondaco.provider.pricing import program

PROCESSES = 4
"""At once."""
COMPLAINT_BYTES = 4_096
"""Of what it says on standard error that is read; a line of it is told."""


class PricingProgram:
    """The program and its deadline; `provider.ports.PriceProgram`."""

    def __init__(self, argv: tuple[str, ...], *, timeout_ms: int) -> None:
        self._argv = argv
        self._timeout_ms = timeout_ms
        self._slots = trio.CapacityLimiter(PROCESSES)

    async def ask(self, question: bytes, tenant: PublicKey) -> Fraction:
        """Raises `Refused` `pricing.program` whatever goes wrong; its whole process group is killed in the end."""
        async with self._slots:
            try:
                process = await trio.lowlevel.open_process(
                    self._argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    env=_environment(tenant),
                )
            except (OSError, ValueError) as error:
                raise Refused("pricing.program", f"the pricing program does not start: {error}") from None
            try:
                with trio.move_on_after(self._timeout_ms / 1_000) as deadline:
                    return await _converse(process, question)
            finally:
                _kill_group(process)
                with trio.CancelScope(shield=True):
                    await process.wait()
                    await _close(process)
            assert deadline.cancelled_caught
            raise Refused("pricing.program", f"the pricing program took more than {self._timeout_ms} ms")


async def _converse(process: trio.Process, question: bytes) -> Fraction:
    complaint = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, process, question)
        nursery.start_soon(_drain, process, complaint)
        printed = await _read(process)
        if len(printed) > program.ANSWER_BYTES:
            nursery.cancel_scope.cancel()
    if len(printed) > program.ANSWER_BYTES:
        raise Refused("pricing.program", f"the pricing program printed more than {program.ANSWER_BYTES} bytes")
    code = await process.wait()
    if code:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        said = f": {lines[-1][:200]}" if lines else ""
        raise Refused("pricing.program", f"the pricing program ended with {code}{said}")
    return program.answer(printed)


async def _write(process: trio.Process, question: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(trio.BrokenResourceError):  # it need not read
        await process.stdin.send_all(question)
    await process.stdin.aclose()


async def _read(process: trio.Process) -> bytes:
    """What it prints, to the end or until it is too much."""
    assert process.stdout is not None
    printed = bytearray()
    async for data in process.stdout:
        printed += data[: program.ANSWER_BYTES + 1]
        if len(printed) > program.ANSWER_BYTES:
            break
    return bytes(printed)


async def _drain(process: trio.Process, complaint: bytearray) -> None:
    """Standard error to its end, the first of it kept: a full pipe would hold the program up."""
    assert process.stderr is not None
    async for data in process.stderr:
        complaint += data[: COMPLAINT_BYTES - len(complaint)]


def _kill_group(process: trio.Process) -> None:
    """Its own children, too: it leads a group of its own, which lives as long as one of them does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _close(process: trio.Process) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            await trio.aclose_forcefully(stream)


def _environment(tenant: PublicKey) -> dict[str, str]:
    """What programs written for Akash look for; nothing of the node's own environment but the path."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"AKASH_OWNER": addresses.encode(tenant), "AKASH_DENOM": "uact"}
