"""Files that survive a crash, and a folder that one process has to itself.

A file written in place can be found half old, half new. Here a new one is written beside it, forced to the
disk, renamed over it, and the folder's own entry is forced out too: after a crash there is the old file or the
new one, whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from fondaco.protocol.errors import Refused

LOCK_NAME = "lock"


def write_atomically(path: Path, data: bytes, mode: int = 0o600, *, replace: bool = True) -> None:
    """Put `data` at `path`, whole or not at all, and durable on return.

    With `replace=False` an existing file is left alone and `FileExistsError` raised, without a moment in which
    two writers could both believe to be the first. Raises `OSError` if the disk refuses; `path` is then as it was.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        try:
            os.fchmod(descriptor, mode)
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            os.rename(name, path)
        else:
            os.link(name, path)
            os.unlink(name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """`os.write` until everything is written; the kernel may take less at a time."""
    with memoryview(data) as view:
        written = 0
        while written < len(view):
            written += os.write(descriptor, view[written:])


def sync_directory(directory: Path) -> None:
    """Force the names in `directory` to the disk: a new file is lost with its name, however well it was synced."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until nobody else is in such a block with `path`: for what is read, changed and written in one go."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class DirectoryLock:
    """Holds a folder for one process; two nodes on one home would sign against each other.

    The kernel drops the lock with the process, so a crash leaves nothing to clean up.

        with DirectoryLock(home):
            ...
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder. Raises `Refused` `home.in_use`, naming the process that has it."""
        assert self._descriptor is None, "this lock is already held"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            write_all(descriptor, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise Refused(
                "home.in_use",
                f"{self._path.parent} is used by process {holder}",
                hint="stop that process, or choose another --home",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the folder back; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
