"""A connection to a port inside of a pod, through the API server: `v4.channel.k8s.io` of `portforward`.

Channel 0 carries data and channel 1 errors; each begins with the number of the port, in two bytes. Nothing says
that a connection was made, only that it was not: so `dial` waits a little for that.
"""

from __future__ import annotations

import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes.kubernetes.client import ApiServer
from fondaco.provider.runtimes.kubernetes.websocket import Socket, connect

DATA, ERROR = 0, 1
PROTOCOLS = ("v4.channel.k8s.io",)
PORT_BYTES = 2
SETTLE_S = 0.25
"""What nothing listens on is told within some milliseconds by the node; no word for so long is a connection."""
RECEIVE_BYTES = 65_536
ERROR_BYTES = 4_096


class Forward(trio.abc.HalfCloseableStream):
    """The connection; one task may receive while another sends.

    Neither side can be told that the other has no more to say while it still listens: `send_eof` does nothing, as
    this protocol has no word for it.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._kept = bytearray()
        self._headers = {DATA: PORT_BYTES, ERROR: PORT_BYTES}
        """Bytes of each that are still to come."""
        self._error = bytearray()
        self._ended = False
        self._closed = False

    async def settle(self) -> None:
        """Wait until it can be used.  Raises `Refused` `workload.dial`."""
        with trio.move_on_after(SETTLE_S):
            while not self._kept and not self._ended and not self._error:
                await self._read()
        if self._error or (self._ended and not self._kept):
            raise Refused("workload.dial", self._why() or "nothing listens there")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if data:
            await self._socket.send(DATA, bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._kept and not self._ended:
            if self._closed:
                raise trio.ClosedResourceError
            await self._read()
        if not self._kept and self._error:
            raise trio.BrokenResourceError(self._why())
        found = bytes(self._kept[: max_bytes or RECEIVE_BYTES])
        del self._kept[: len(found)]
        return found

    async def aclose(self) -> None:
        self._closed = True
        await self._socket.aclose()

    async def _read(self) -> None:
        message = await self._socket.receive()
        if message is None:
            self._ended = True
            return
        channel, data = message
        header = self._headers.get(channel, 0)
        self._headers[channel] = max(0, header - len(data))
        data = data[header:]
        if channel == DATA:
            self._kept += data
        elif channel == ERROR:
            self._error += data[: ERROR_BYTES - len(self._error)]
            self._ended = self._ended or bool(data)

    def _why(self) -> str:
        return self._error.decode("utf-8", "replace").rpartition(": ")[2][:300]


async def dial(api: ApiServer, namespace: str, pod: str, port: int) -> Forward:
    """Connect to `port` inside of a pod.  Raises `Refused` `workload.dial` and what `connect` does."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    forward = Forward(await connect(api, path, [("ports", str(port))], PROTOCOLS))
    try:
        await forward.settle()
    except BaseException as error:
        await trio.aclose_forcefully(forward)
        if isinstance(error, trio.BrokenResourceError):
            raise Refused("workload.dial", f"port {port}: the connection broke off") from None
        raise
    return forward
