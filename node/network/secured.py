"""The encrypted connection under the multiplexer, without the layers that cost more than the cipher.

Upstream reads a Noise message in two steps, its length and its body, each through four objects, a lock and the
socket; every step is a turn of the scheduler, and those turns were half of a validator's processor time. Here the
socket is read as far as it goes, and what has come is cut and decrypted in memory; what is sent goes straight to
the socket while that has room. The bytes on the wire are the same
(https://github.com/libp2p/specs/blob/master/noise/README.md#wire-format). Through a relay a circuit is what the
bytes go over, in the socket's place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import trio
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH

RECEIVE_BYTES = 65_536
LENGTH_BYTES = 2
READS_IN_A_ROW = 64
"""Then others have a turn, though more has come: a flood of tiny frames must not stop the node."""


class Carrier(Protocol):
    """What carries the encrypted bytes. All of it raises `ConnectionClosedError` when that is gone."""

    def send_now(self, data: bytes) -> int:
        """How much of `data` is taken at once."""

    async def send_rest(self, data: bytes) -> None:
        """Send all of `data`."""

    async def receive(self) -> bytes:
        """What has come, once something has; empty at the end."""


class Secured:
    """Takes a Noise session's place once the handshake is over; what it has not is asked of the session."""

    def __init__(self, session: Any) -> None:
        self._session = session
        noise = session.conn
        raw = noise.read_writer.read_write_closer
        self.relayed: bool = hasattr(raw, "carrier")
        """Whether a relay is in between."""
        self._carrier: Carrier = raw.carrier if self.relayed else Socket(raw.stream.stream)
        self._cipher = noise.noise_state
        self._received = bytearray()
        self._plain = bytearray(session._drain(None))
        self._reads = 0
        self.skim: Callable[[], int] | None = None
        """Asked before each read for whole frames that it can do without upstream; how many it took."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def take(self, size: int) -> bytes | None:
        """The next `size` bytes, if they have come already."""
        if not self._has(size):
            return None
        data = bytes(self._plain[:size])
        del self._plain[:size]
        return data

    def peek(self, size: int) -> bytes | None:
        """As `take`, and they stay."""
        return bytes(self._plain[:size]) if self._has(size) else None

    def _has(self, size: int) -> bool:
        """Decrypt as much as that takes; whether so many bytes have come."""
        plain = self._plain
        while len(plain) < size:
            message = self._next_message()
            if message is None:
                return False
            plain += self._cipher.decrypt(message)
        return True

    async def read(self, size: int) -> bytes:
        """The next `size` bytes, all of them. Raises `IncompleteReadError` if the connection ends first."""
        self._reads += 1
        if self._reads > READS_IN_A_ROW:
            self._reads = 0
            await trio.lowlevel.checkpoint()
        while (data := self._skimmed(size)) is None:
            self._reads = 0
            received = await self._carrier.receive()
            if not received:
                raise IncompleteReadError(
                    "the connection ended",
                    expected_bytes=size,
                    received_bytes=len(self._plain) + len(self._received),
                )
            self._received += received
        return data

    def _skimmed(self, size: int) -> bytes | None:
        if self.skim is not None:
            self._reads += self.skim()
        return self.take(size)

    def start(self, data: bytes) -> bytes:
        """Encrypt `data` and send what the socket takes at once; the rest, encrypted, must go to `finish` next.

        Raises `ConnectionClosedError`.
        """
        parts: list[bytes] = []
        for start in range(0, len(data), MAX_PLAINTEXT_LENGTH):
            message = self._cipher.encrypt(data[start : start + MAX_PLAINTEXT_LENGTH])
            parts += (len(message).to_bytes(LENGTH_BYTES, "big"), message)
        encrypted = b"".join(parts)
        return encrypted[self._carrier.send_now(encrypted) :]

    async def finish(self, rest: bytes) -> None:
        """Send what `start` left over. Raises `ConnectionClosedError`."""
        await self._carrier.send_rest(rest)

    async def write(self, data: bytes) -> None:
        """Both, for upstream."""
        if rest := self.start(data):
            await self.finish(rest)

    async def close(self) -> None:
        await self._session.close()

    def _next_message(self) -> bytes | None:
        """The next Noise message, still encrypted, if all of it has come."""
        received = self._received
        if len(received) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(received[:LENGTH_BYTES], "big")
        if len(received) < end:
            return None
        message = bytes(received[LENGTH_BYTES:end])
        del received[:end]
        return message


class Socket:
    """A TCP connection as the carrier."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    def send_now(self, data: bytes) -> int:
        descriptor = self._stream.socket.fileno()
        if descriptor < 0:
            return len(data)  # closed by ourselves, as in `send_rest`
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _gone() from error

    async def send_rest(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise _gone() from error
        except trio.ClosedResourceError:
            return  # we closed it ourselves: upstream takes that for no error, and relies on it

    async def receive(self) -> bytes:
        try:
            await trio.lowlevel.wait_readable(self._stream.socket)
            return os.read(self._stream.socket.fileno(), RECEIVE_BYTES)
        except BlockingIOError:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except trio.ClosedResourceError:
            return b""
        except OSError as error:
            raise _gone() from error


def _gone() -> ConnectionClosedError:
    return ConnectionClosedError("the peer closed the connection", transport="tcp")
