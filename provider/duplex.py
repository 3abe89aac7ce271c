"""A channel session on a stream: the handshake of either side, then messages both ways with back-pressure.

The reading task only sorts frames into a queue that credit bounds, so it never waits for the application, and
frames are written whole or the stream is reset, so that a cancelled caller leaves no half of one behind. Tenants
use this too (node/tenant/channel.py): both sides of a call are the same thing once it is open.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from fondaco.protocol import limits
from fondaco.protocol.channel import ClientSession, ServerSession, State
from fondaco.protocol.channel_events import Called, Challenged, Ended, Event, Failed, Greeted, Opened, Received
from fondaco.protocol.channel_frames import DATA_BYTES
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.frames import FrameReader, frame
from fondaco.protocol.records import Lease
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.ports import Stream

E = TypeVar("E", bound=Event)
READ_BYTES = 64 * limits.KIB


class Duplex:
    """One call. `shake` or `greet` first, then `pump` in a task of its own, `send` and `receive` in any others."""

    def __init__(self, stream: Stream, session: ClientSession | ServerSession) -> None:
        self.stream = stream
        self._session = session
        self._frames = FrameReader(limit=limits.CHANNEL_REQUEST_BYTES)
        self._events: deque[Event] = deque()
        self._received: deque[bytes] = deque()
        self._ended = False
        self.error: FondacoError | None = None
        """What broke the call off."""
        self._changed = trio.Event()
        self._sent_end = False
        self._sending = trio.Lock()
        self._writing = trio.Lock()
        self.lost = trio.Event()
        """Set when the call broke off: the peer failed it, broke the rules or went away."""
        self.finished = trio.Event()
        """Set when `pump` has returned: both sides have ended, or the call is lost."""

    # --- Handshake

    async def shake(self, method: str, params: bytes) -> None:
        """The tenant's side. Raises `Refused`, `Unreachable` or `PeerFault`; the stream is then reset."""
        session = self._session
        assert isinstance(session, ClientSession), "providers greet"
        try:
            with trio.fail_after(limits.HANDSHAKE_TIMEOUT_MS / 1000):
                await self._write(session.hello)
                await self._expect(Challenged)
                await self._write(lambda: session.request(method, params))
                await self._expect(Opened)
        except trio.TooSlowError:
            await self.stream.reset()
            raise Unreachable("channel.timeout", "the provider did not answer on its channel") from None
        except FondacoError:
            await self.stream.reset()
            raise

    async def greet(self, lease: Callable[[LeaseId], Awaitable[Lease | None]]) -> tuple[LeaseId, Called]:
        """The provider's side, up to the request; then `accept`, or `fail`. Raises as `shake` does.

        Who is refused is told so, and must close the stream itself.
        """
        session = self._session
        assert isinstance(session, ServerSession), "tenants shake"
        try:
            with trio.fail_after(limits.HANDSHAKE_TIMEOUT_MS / 1000):
                greeted = await self._expect(Greeted)
                record = await lease(greeted.lease)
                await self._write(lambda: session.challenge(record))
                return greeted.lease, await self._expect(Called)
        except trio.TooSlowError:
            raise Unreachable("channel.timeout", "the tenant did not finish its handshake") from None

    async def accept(self) -> None:
        session = self._session
        assert isinstance(session, ServerSession), "providers accept"
        await self._write(session.accept)

    async def _expect(self, kind: type[E]) -> E:
        while not self._events:
            data = await self.stream.read(READ_BYTES)
            if not data:
                raise Unreachable("channel.ended", "the peer ended the stream")
            for payload in self._frames.feed(data):
                self._events.extend(self._session.receive(payload))
        event = self._events.popleft()
        if isinstance(event, Failed):
            raise event.error
        if not isinstance(event, kind):
            raise PeerFault("channel.sequence", f"wanted {kind.__name__}, got {type(event).__name__}")
        return event

    async def _write(self, make: Callable[[], bytes]) -> None:
        async with self._writing:
            await self._put(make())

    async def _put(self, payload: bytes) -> None:
        """Write one frame whole; the caller holds the lock, so frames leave in the order they were made."""
        with trio.CancelScope(shield=True) as scope:
            scope.deadline = trio.current_time() + limits.WRITE_STALL_MS / 1000
            await self.stream.write(frame(payload, limit=limits.CHANNEL_REQUEST_BYTES))
        if scope.cancelled_caught:
            await self.stream.reset()
            raise Unreachable("channel.stalled", "the peer takes no bytes")

    # --- Once open

    async def pump(self) -> None:
        """Read until the call is over or the peer is gone; never raises what others will."""
        try:
            self._sort()
            while self._session.state is not State.OVER:
                data = await self.stream.read(READ_BYTES)
                if not data:
                    raise Unreachable("channel.ended", "the peer ended the stream within a call")
                for payload in self._frames.feed(data):
                    self._events.extend(self._session.receive(payload))
                self._sort()
        except FondacoError as error:
            if self._session.state is not State.OVER:
                self._lose(error)
                await self.stream.reset()
        finally:
            self.finished.set()

    def _sort(self) -> None:
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Received):
                self._received.append(event.data)
            elif isinstance(event, Ended):
                self._ended = True
            elif isinstance(event, Failed):
                self._lose(event.error)
        self._ring()

    def _lose(self, error: FondacoError) -> None:
        if self.error is None:  # what comes after the first is its consequence
            self.error = error
        self.lost.set()
        self._ring()

    def _ring(self) -> None:
        rung, self._changed = self._changed, trio.Event()
        rung.set()

    async def send(self, data: bytes) -> None:
        """Send one message of at most `DATA_BYTES`, waiting for credit. Raises what ended the call.

        Raises `Refused` `channel.too_large` for a longer one, and `channel.ended` after `end`.
        """
        if len(data) > DATA_BYTES:
            raise Refused("channel.too_large", f"{len(data)} bytes in one message, at most {DATA_BYTES}")
        async with self._sending:
            while True:
                changed = self._changed
                async with self._writing:
                    if self.error is not None:
                        raise self.error
                    if self._session.may_send:
                        await self._put(self._session.data(data))
                        return
                    if self._sent_end:
                        raise Refused("channel.ended", "this direction has been ended")
                # Credit is awaited outside the lock: the other direction must be able to give its own back.
                await changed.wait()

    async def receive(self) -> bytes | None:
        """The next message; None once the peer has ended. Raises what ended the call otherwise.

        For one task at a time.
        """
        while not self._received:
            if self._ended:
                return None
            if self.error is not None:
                raise self.error
            await self._changed.wait()
        async with self._writing:
            data = self._received.popleft()
            credit = self._session.consumed(data)
            if credit is not None and self.error is None:
                with contextlib.suppress(Unreachable):  # the data is here; the next call tells
                    await self._put(credit)
        return data

    async def end(self) -> None:
        """Send nothing more; messages of the peer still come."""
        async with self._writing:
            if self.error is None and not self._sent_end:
                self._sent_end = True
                await self._put(self._session.end())

    async def fail(self, error: FondacoError) -> None:
        """End the call and tell the peer why, if it still listens; never raises."""
        self._lose(error)
        with contextlib.suppress(Unreachable):
            await self._write(lambda: self._session.fail(error))

    async def aclose(self) -> None:
        """Leave the stream: politely when all was said, else by a reset. Never raises."""
        self._lose(Unreachable("channel.closed", "the call was closed"))
        with trio.CancelScope(shield=True):
            if self._session.state is State.OVER:
                with contextlib.suppress(Unreachable):
                    await self.stream.close()
            else:
                await self.stream.reset()
