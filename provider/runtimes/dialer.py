"""The provider's end of `netns_dialer`: one helper process for all workloads, started when first needed."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.processes import Process

HELPER = Path(__file__).with_name("netns_dialer.py")


class Dialer:
    """Opens connections to the loopback of a process's network namespace."""

    def __init__(self) -> None:
        self._control: trio.socket.SocketType | None = None
        self._helper: trio.Process | None = None
        self._starting = trio.Lock()

    async def dial(self, target: Process, port: int) -> trio.SocketStream:
        """Connect to 127.0.0.1:`port` as `target` sees it.  Raises `Refused` `workload.dial`."""
        if not 0 < port < 65_536:
            raise Refused("workload.dial", f"port {port} is not in 1..65535")
        network = _network_of(target)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        waiting = trio.socket.from_stdlib_socket(ours)
        try:
            control = await self._ensure_helper()
            request = f"{port} {bounds.WORKLOAD_DIAL_TIMEOUT_MS}".encode()
            await control.sendmsg([request], [_rights(theirs.fileno(), network)])
            theirs.close()
            return await _await_answer(waiting, port)
        except BrokenPipeError:
            await self.aclose()
            raise Refused("workload.dial", "the dialling helper died", hint="try again") from None
        finally:
            os.close(network)
            theirs.close()
            waiting.close()

    async def _ensure_helper(self) -> trio.socket.SocketType:
        async with self._starting:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._helper = await trio.lowlevel.open_process(
                        [sys.executable, "-I", "-S", str(HELPER), str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        cwd="/",
                    )
                self._control = trio.socket.from_stdlib_socket(ours)
            return self._control

    async def aclose(self) -> None:
        """End the helper; connections already made go on."""
        control, helper = self._control, self._helper
        self._control = self._helper = None
        if control is not None:
            control.close()
        if helper is not None:
            with trio.CancelScope(shield=True):
                await helper.wait()


def _network_of(target: Process) -> int:
    gone = Refused("workload.gone", "the workload does not run", hint="look at its status")
    try:
        network = os.open(f"/proc/{target.pid}/ns/net", os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError):
        raise gone from None
    if not target.alive():  # checked after opening: the pid may have been given away in between
        os.close(network)
        raise gone
    return network


def _rights(*fds: int) -> tuple[int, int, bytes]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)


async def _await_answer(waiting: trio.socket.SocketType, port: int) -> trio.SocketStream:
    text, ancillary, _, _ = await waiting.recvmsg(16, socket.CMSG_LEN(4))
    if text == b"ok" and ancillary:
        fd = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        return trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=fd)))
    number = int(text or b"5")
    reason = {errno.ECONNREFUSED: "nothing listens there", errno.ETIMEDOUT: "it does not answer"}
    raise Refused("workload.dial", f"port {port} of the workload: {reason.get(number, os.strerror(number))}")
