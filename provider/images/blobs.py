"""What was downloaded, by digest: whole and verified, or partial and to be gone on with.

    <key>            a blob that is what its digest says
    <key>.partial    one on its way; whoever writes it holds a lock on it, which ends with its process

A blob is handed out open: it may be removed from here while somebody reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fondaco.protocol.errors import Refused
from fondaco.provider.images.references import DIGEST
from fondaco.provider.runtimes import bounds

PARTIAL = ".partial"


def key_of(digest: str, scope: str) -> str:
    """Under which name something is kept: what only some may pull, and say so by `scope`, is kept apart.

    Else whoever knows the digest of another's private layer could name it in an image of his own and read it.
    """
    assert DIGEST.fullmatch(digest), "only sha256 digests come so far"
    if not scope:
        return digest.removeprefix("sha256:")
    return hashlib.sha256(f"{scope}\0{digest}".encode()).hexdigest()


class BlobStore:
    """Blobs below `directory`; other processes may write there too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self, key: str, digest: str, size: int) -> IO[bytes] | None:
        """The blob from its start, checked again, or None if it is not here or no longer what it was."""
        path = self._directory / key
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if not matches(file, digest, size):
            file.close()
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return file

    @contextlib.contextmanager
    def partial(self, key: str, digest: str, size: int) -> Iterator[Partial]:
        """Go on with a download, or begin one.  Raises `BlockingIOError` while another process is at it."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / f"{key}{PARTIAL}"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not same_file(file.fileno(), path):
                raise BlockingIOError  # it was finished or removed between the two
            yield Partial(file, path, digest, size)


class Partial:
    """A download under way.  Its methods block: run them in a thread."""

    def __init__(self, file: IO[bytes], path: Path, digest: str, size: int) -> None:
        self._file = file
        self._path = path
        self._expected = digest
        self._size = size
        self._hash = hashlib.sha256()
        self.done = 0
        """Bytes written and hashed."""

    def resume(self) -> None:
        """Take over what an earlier download left."""
        self.restart()
        if os.fstat(self._file.fileno()).st_size <= self._size:
            while data := self._file.read(bounds.REGISTRY_CHUNK_BYTES):
                self._hash.update(data)
                self.done += len(data)
        self._file.truncate(self.done)

    def restart(self) -> None:
        """From the first byte."""
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.done = 0

    def write(self, data: bytes) -> None:
        """Raises `Refused` `image.digest` when more comes than the manifest says."""
        if self.done + len(data) > self._size:
            raise Refused("image.digest", f"blob {self._expected} is longer than the {self._size} bytes announced")
        self._file.write(data)
        self._hash.update(data)
        self.done += len(data)

    @property
    def whole(self) -> bool:
        return self.done == self._size

    def matches(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self._expected

    def finish(self) -> None:
        """On the disk and in its place when this returns."""
        self._file.truncate(self.done)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.rename(self._path.with_suffix(""))

    def flush(self) -> None:
        """Leave what there is for another attempt."""
        self._file.truncate(self.done)
        self._file.flush()

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)


def matches(file: IO[bytes], digest: str, size: int) -> bool:
    """Whether `file` has this size and digest; it is at its start when this returns."""
    hashed = hashlib.sha256()
    if os.fstat(file.fileno()).st_size != size:
        return False
    while data := file.read(bounds.REGISTRY_CHUNK_BYTES):
        hashed.update(data)
    file.seek(0)
    return f"sha256:{hashed.hexdigest()}" == digest


def same_file(descriptor: int, path: Path) -> bool:
    """Whether `path` still names what was opened by it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
