"""What a pod has said: read from its node as long as the pod is there, and kept by us when it is removed.

A cluster forgets a pod's log with the pod. So before a pod is removed its log is followed to the end, into a file
as the embedded runtime's shims write it. The interface does not tell output and errors apart: all of it is `out`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.kubernetes.client import ApiServer, Gone
from fondaco.provider.runtimes.kubernetes.names import CONTAINER
from fondaco.provider.runtimes.kubernetes.wire import FOREVER, Lines
from fondaco.provider.runtimes.logs import moment
from fondaco.provider.runtimes.port import Channel, LogLine

KEPT_BYTES = bounds.WORKLOAD_LOG_FILES * bounds.WORKLOAD_LOG_FILE_BYTES
QUIET_S = 30.0
"""A log that is not followed comes without a pause; one that is may be silent for ever."""
STAMP_CHARACTERS = 40


async def read(
    api: ApiServer,
    namespace: str,
    pod: str,
    *,
    tail: int | None = None,
    follow: bool = False,
    since: str = "",
    begun: trio.Event | None = None,
) -> AsyncGenerator[tuple[str, LogLine], None]:
    """Each line and its stamp, which `since` takes; from its node.  Raises `Refused` `workload.gone`."""
    wanted = {"container": CONTAINER, "timestamps": "true"}
    wanted |= {"tailLines": str(tail)} if tail is not None else {}
    wanted |= {"follow": "true"} if follow else {}
    wanted |= {"sinceTime": since} if since else {}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    most = bounds.WORKLOAD_LOG_LINE_BYTES + STAMP_CHARACTERS
    last: tuple[str, Millis] | None = None
    async with api.stream(path, read_s=FOREVER if follow else QUIET_S, **wanted) as answer:
        if begun is not None:
            begun.set()
        async for line in Lines(answer, most):
            stamp, at, text = _parse(line)
            if at is None:  # the rest of a line that was cut
                if last is None:
                    continue
                (stamp, at), text = last, line
            last = stamp, at
            if stamp > since:
                told = text.decode("utf-8", "replace")
                yield stamp, LogLine(at=at, channel=Channel.OUT, text=told, partial=len(line) >= most)


def _parse(line: bytes) -> tuple[str, Millis | None, bytes]:
    stamp, _, text = line.partition(b" ")
    said = stamp.decode("ascii", "replace")
    return said, moment(said), text


async def follow(api: ApiServer, namespace: str, pod: str, *, tail: int | None) -> AsyncGenerator[LogLine, None]:
    """All lines until the pod has ended: gone on with where a connection broke off.

    A server ends a connection after hours; lines of one and the same nanosecond might be lost then.
    """
    since = ""
    while True:
        try:
            async with aclosing(
                read(api, namespace, pod, tail=None if since else tail, follow=True, since=since)
            ) as found:
                async for stamp, line in found:
                    since = stamp
                    yield line
        except Unreachable:
            if not since:
                raise
        except Refused as error:
            if error.code != "workload.gone" or not since:
                raise
            return
        if await _has_ended(api, namespace, pod):
            return


async def _has_ended(api: ApiServer, namespace: str, pod: str) -> bool:
    found = await api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
    return found is None or (found.get("status") or {}).get("phase") in ("Succeeded", "Failed")


class Keeper:
    """Writes a pod's log to a file: the last of it, as much as is kept of any workload."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: deque[bytes] = deque()
        self._size = 0
        self.begun = trio.Event()
        """Set once it is being followed, or cannot be."""

    async def take(self, api: ApiServer, namespace: str, pod: str) -> None:
        """Follow it to its end; may be cancelled.  A log that its node does not give is none."""
        try:
            async with aclosing(read(api, namespace, pod, follow=True, begun=self.begun)) as found:
                async for _, line in found:
                    self._add(line)
        except (Refused, Unreachable, Gone):
            await trio.lowlevel.checkpoint()
        finally:
            self.begun.set()

    def _add(self, line: LogLine) -> None:
        text = line.text.replace("\n", " ").encode()
        record = b"%d o %s %s\n" % (line.at, b"P" if line.partial else b"F", text)
        self._records.append(record)
        self._size += len(record)
        while self._size > KEPT_BYTES:
            self._size -= len(self._records.popleft())

    async def write(self) -> None:
        await trio.to_thread.run_sync(self._write)

    def _write(self) -> None:
        if self._records:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("wb") as file:
                file.writelines(self._records)
