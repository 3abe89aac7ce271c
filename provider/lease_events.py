"""What happened to a lease at its provider: the newest events, on disk, so that a restart forgets none.

One file a lease. Events are appended as frames; when half of the file is of events that are no longer kept, it is
written anew. A frame that a crash cut short is dropped. Events are for people: a disk that takes none is logged,
and nothing waits for it.
"""

from __future__ import annotations

import logging
import re
import time
import weakref
from collections import Counter, deque
from collections.abc import AsyncGenerator
from pathlib import Path

import trio

from fondaco.protocol import codec, limits
from fondaco.protocol.channel_calls import Happening, LeaseEvent
from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.frames import FrameReader, frame
from fondaco.protocol.scalars import LeaseId, Millis

SUFFIX = ".events"
_LEASE = re.compile("[0-9a-f]{64}")
log = logging.getLogger("fondaco.provider")


def wall() -> Millis:
    """This machine's time; nothing that money depends on reads it."""
    return Millis(time.time_ns() // 1_000_000)


class LeaseEvents:
    """The events of one lease."""

    def __init__(self, path: Path, counts: Counter[str]) -> None:
        self._path = path
        self._counts = counts
        self._events: deque[LeaseEvent] = deque(maxlen=limits.LEASE_EVENTS)
        self._in_file = 0
        self._changed = trio.Event()
        self._over = False
        self._load()

    def add(
        self, kind: Happening, detail: str = "", *, service: str = "", replica: int = 0, code: int | None = None
    ) -> None:
        """Something happened just now."""
        event = LeaseEvent(
            number=self._events[-1].number + 1 if self._events else 1,
            time=wall(),
            kind=kind.value,
            service=service,
            replica=replica,
            code=code,
            detail=detail.encode()[: limits.LEASE_EVENT_BYTES // 4].decode(errors="ignore"),
        )
        self._events.append(event)
        self._counts[kind.value] += 1
        try:
            self._write(event)
        except OSError as error:
            log.warning("an event of a lease was not written: %s", error)
        self._ring()

    def after(self, number: int) -> list[LeaseEvent]:
        """Those with a higher number, oldest first."""
        return [event for event in self._events if event.number > number]

    async def follow(self, after: int) -> AsyncGenerator[LeaseEvent, None]:
        """Likewise, and then as they come until `close`. Who is very slow misses what is no longer kept."""
        while True:
            changed, over = self._changed, self._over
            for event in self.after(after):
                after = event.number
                yield event
            if over:
                return
            await changed.wait()

    def close(self) -> None:
        """Nothing more happens to this lease."""
        self._over = True
        self._ring()

    def _ring(self) -> None:
        rung, self._changed = self._changed, trio.Event()
        rung.set()

    def _write(self, event: LeaseEvent) -> None:
        whole = self._in_file >= 2 * limits.LEASE_EVENTS
        events = list(self._events) if whole else [event]
        data = b"".join(frame(codec.encode(one), limit=limits.LEASE_EVENT_BYTES) for one in events)
        if whole:
            self._replace(data, len(events))
            return
        with self._path.open("ab") as file:
            file.write(data)
        self._in_file += 1

    def _replace(self, data: bytes, count: int) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_bytes(data)
        beside.replace(self._path)
        self._in_file = count

    def _load(self) -> None:
        """What can be read; the file is put in order, or nothing that is added to it would be read again."""
        if not self._path.exists():
            return
        whole = data = b""
        try:
            data = self._path.read_bytes()
            for payload in FrameReader(limit=limits.LEASE_EVENT_BYTES).feed(data):
                self._events.append(codec.decode(payload, LeaseEvent))
                whole += frame(payload)
                self._in_file += 1
        except (Malformed, PeerFault, OSError) as error:
            log.error("the events in %s cannot all be read: %s", self._path.name, error)
        if whole != data:
            try:
                self._replace(whole, self._in_file)
            except OSError as error:
                log.error("the events in %s cannot be put in order: %s", self._path.name, error)


class EventStore:
    """The events of all leases, in a folder only its owner can read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.counts = Counter[str]()
        """Events of all leases since the start, by their kind."""
        self._open: weakref.WeakValueDictionary[LeaseId, LeaseEvents] = weakref.WeakValueDictionary()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def of(self, lease: LeaseId) -> LeaseEvents:
        """The same one for all who hold it at a time."""
        found = self._open.get(lease)
        if found is None:
            found = self._open[lease] = LeaseEvents(self._path(lease), self.counts)
        return found

    def kept(self) -> list[LeaseId]:
        """Leases that have events on the disk."""
        names = (path.stem for path in self._directory.glob(f"*{SUFFIX}"))
        return sorted(LeaseId(bytes.fromhex(name)) for name in names if _LEASE.fullmatch(name))

    def forget(self, lease: LeaseId) -> None:
        self._path(lease).unlink(missing_ok=True)

    def _path(self, lease: LeaseId) -> Path:
        return self._directory / f"{lease.hex()}{SUFFIX}"
