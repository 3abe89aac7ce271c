"""The room that images have on a provider's disk, and what leaves it first.

    <key>/                  an unpacked image
    <key>.json              what it is, when it was used last (its time of modification) and how large it is
    blobs/<key>             what was downloaded, for images that share it: see `blobs`
    <key>.partial/          being unpacked, by whoever holds `.lock`
    <key>.removed/          being removed

What was used longest ago goes first. An image stays while a workload is of it, which the workloads' folders say,
and while somebody holds it on the way to becoming one: by a lock of the kernel, so that other processes see it and
none outlives its holder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from fondaco.protocol.errors import Refused
from fondaco.provider.images.blobs import PARTIAL, same_file
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import Image, ImageConfig
from fondaco.provider.runtimes.unpack import remove_tree

REMOVED, RECORD, BLOBS = ".removed", ".json", "blobs"
_KEY = re.compile(r"[0-9a-f]{64}")
REFERENCES = 64
"""Remembered of one image."""
PARTIAL_KEPT_S = 24 * 3_600
"""So long nobody has gone on with a download that broke off, and nobody will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An unpacked image."""

    key: str
    """Name of its folder: see `key_of`."""
    digest: str
    references: tuple[str, ...]
    """Those that named it, the newest last."""
    shared: bool
    """Everybody may have it."""
    config: ImageConfig
    size_bytes: int = 0

    def image(self, directory: Path) -> Image:
        return Image(digest=self.digest, config=self.config, rootfs=str(directory / self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that takes room."""

    path: Path
    size_bytes: int
    used_at: float
    """Seconds since 1970."""
    record: Record | None
    """Of an unpacked image that is known."""

    @property
    def is_image(self) -> bool:
        """Unpacked; else it is a download."""
        return _KEY.fullmatch(self.path.name) is not None and self.path.parent.name != BLOBS


class ImageCache:
    """What lies below `directory`, at most `cap_bytes` of it.  Its methods block: run them in a thread."""

    def __init__(
        self,
        directory: Path,
        *,
        cap_bytes: int = bounds.IMAGE_CACHE_BYTES,
        in_use: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._directory = directory
        self.cap_bytes = cap_bytes
        self.in_use = in_use
        """Keys of the images that workloads are of."""
        self._reserved: list[int] = []
        """Bytes that pulls under way have been promised; appending and removing are atomic."""
        self._mutex = threading.RLock()

    # --- What is there

    def items(self) -> list[Item]:
        """All of it, what was used longest ago first."""
        found = []
        for path in _folders(self._directory):
            with contextlib.suppress(FileNotFoundError):  # just removed
                found.append(self._tree(path))
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._directory / BLOBS):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    size = stat.st_blocks * 512
                    found.append(Item(path=Path(entry.path), size_bytes=size, used_at=stat.st_mtime, record=None))
        return sorted(found, key=lambda item: (item.used_at, item.path.name))

    def records(self) -> list[Record]:
        """Of every unpacked image, what was used longest ago first."""
        return [item.record for item in self.items() if item.record is not None]

    def find(self, reference: str) -> Record | None:
        """The image that `reference` named last, if everybody may have it."""
        for record in reversed(self.records()):
            if record.shared and reference in record.references:
                return record
        return None

    def used(self, record: Record, size_bytes: int | None = None) -> None:
        """Say that an image was asked for just now, by the reference that its record has."""
        with self._mutex:
            (reference,) = record.references
            for other in self.records():
                if other.key != record.key and other.shared == record.shared and reference in other.references:
                    left = tuple(one for one in other.references if one != reference)
                    self._write(dataclasses.replace(other, references=left), keep_time=True)
            known = self._read(record.key)
            earlier = () if known is None else tuple(one for one in known.references if one != reference)
            if size_bytes is None:
                size_bytes = known.size_bytes if known else tree_bytes(self._directory / record.key)
            references = (*earlier, reference)[-REFERENCES:]
            self._write(dataclasses.replace(record, references=references, size_bytes=size_bytes))

    # --- Room

    @contextlib.contextmanager
    def hold(self, tree: Path) -> Iterator[None]:
        """Keep an image from being removed.  Raises `FileNotFoundError` or `BlockingIOError` if it just was."""
        with _locked(tree, fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def room(self, needed_bytes: int) -> Iterator[None]:
        """Have so much room while this lasts.  Raises `Refused` `image.room`."""
        with self._mutex:
            self.make_room(needed_bytes)
            self._reserved.append(needed_bytes)
        try:
            yield
        finally:
            self._reserved.remove(needed_bytes)

    def make_room(self, needed_bytes: int, *, keep: str = "") -> list[Item]:
        """Remove until so much more fits in, all but the image `keep`; what was removed.

        Raises `Refused` `image.room` where what is in use leaves too little.
        """
        with self._mutex:
            items = self.items()
            taken = sum(item.size_bytes for item in items) + sum(self._reserved)
            over = taken + needed_bytes - self.cap_bytes
            self._directory.mkdir(parents=True, exist_ok=True)
            over = max(over, needed_bytes - shutil.disk_usage(self._directory).free)
            stay = {keep, *self.in_use()}
            removable = [item for item in items if item.path.name not in stay]
            removed: list[Item] = []
            if needed_bytes and over > sum(item.size_bytes for item in removable):
                raise _no_room(needed_bytes)  # before anything is removed in vain
            for item in removable:
                if over > 0 and self.remove(item):
                    removed.append(item)
                    over -= item.size_bytes
            if over > 0 and needed_bytes:
                raise _no_room(needed_bytes)
            return removed

    def largest(self) -> int:
        """Bytes that one image may unpack to now."""
        used = set(self.in_use())
        taken = sum(item.size_bytes for item in self.items() if item.path.name in used)
        return max(0, min(bounds.IMAGE_UNPACKED_BYTES, self.cap_bytes - taken))

    def remove(self, item: Item) -> bool:
        """Unless it is in use; whether it was removed."""
        if not item.path.is_dir():
            return _remove_blob(item.path)
        removed = item.path.with_suffix(REMOVED)
        try:
            with _locked(item.path, fcntl.LOCK_EX):
                # Asked with the lock: whoever held it has said by now what it was for.
                if item.path.name in self.in_use() or removed.exists():
                    return False
                item.path.rename(removed)
        except (FileNotFoundError, BlockingIOError):
            return False
        item.path.with_suffix(RECORD).unlink(missing_ok=True)
        remove_tree(removed)
        return True

    def sweep(self) -> None:
        """Remove what a process left that was killed at it; then what is too much."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody unpacks
            for path in list(self._directory.iterdir()):
                abandoned = path.suffix in (PARTIAL, REMOVED) or path.name.endswith(".tmp")
                orphaned = path.suffix == RECORD and not path.with_suffix("").is_dir()
                if path.is_dir() and abandoned:
                    remove_tree(path)
                elif abandoned or orphaned:
                    path.unlink(missing_ok=True)
        for item in self.items():
            if item.path.suffix == PARTIAL and item.used_at + PARTIAL_KEPT_S < time.time():
                self.remove(item)
        self.make_room(0)

    # --- Files

    def _tree(self, path: Path) -> Item:
        record = self._read(path.name)
        if record is None:  # of a version that kept no records
            stat = path.stat()
            return Item(path=path, size_bytes=tree_bytes(path), used_at=stat.st_mtime, record=None)
        used_at = path.with_suffix(RECORD).stat().st_mtime
        return Item(path=path, size_bytes=record.size_bytes, used_at=used_at, record=record)

    def _read(self, key: str) -> Record | None:
        try:
            content = json.loads((self._directory / f"{key}{RECORD}").read_bytes())
        except (FileNotFoundError, ValueError):
            return None  # not there, or cut off by a crash of the machine: it is written anew
        config = content["config"]
        return Record(
            key=key,
            digest=content["digest"],
            references=tuple(content["references"]),
            shared=content["shared"],
            config=ImageConfig(
                entrypoint=tuple(config["entrypoint"]),
                cmd=tuple(config["cmd"]),
                env=tuple(config["env"]),
                working_dir=config["working_dir"],
            ),
            size_bytes=content["size_bytes"],
        )

    def _write(self, record: Record, *, keep_time: bool = False) -> None:
        path = self._directory / f"{record.key}{RECORD}"
        stat = path.stat() if keep_time else None
        content = dataclasses.asdict(record)
        del content["key"]
        with tempfile.NamedTemporaryFile("w", dir=self._directory, suffix=".tmp", delete=False) as file:
            json.dump(content, file)
        if stat is not None:
            os.utime(file.name, (stat.st_atime, stat.st_mtime))
        os.rename(file.name, path)


def _no_room(needed_bytes: int) -> Refused:
    return Refused(
        "image.room",
        f"an image of {needed_bytes} bytes does not fit beside those in use",
        hint="its operator may raise image_cache_bytes",
    )


def tree_bytes(top: Path) -> int:
    """What a tree takes on the disk; files with several names once."""
    total, seen = 0, set()
    for folder, _, names in os.walk(top):
        for name in (".", *names):
            stat = os.lstat(os.path.join(folder, name))
            if stat.st_nlink > 1 and name != ".":
                if stat.st_ino in seen:
                    continue
                seen.add(stat.st_ino)
            total += stat.st_blocks * 512
    return total


@contextlib.contextmanager
def _locked(tree: Path, kind: int) -> Iterator[None]:
    """Raises `BlockingIOError` or `FileNotFoundError`."""
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if not same_file(descriptor, tree):
            raise FileNotFoundError(tree)
        yield
    finally:
        os.close(descriptor)


def _folders(directory: Path) -> list[Path]:
    try:
        return [
            Path(entry.path) for entry in os.scandir(directory) if _KEY.fullmatch(entry.name) and entry.is_dir()
        ]
    except FileNotFoundError:
        return []


def _remove_blob(path: Path) -> bool:
    """One that is being downloaded stays; one that is only read may go."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError):
        with path.open("rb") as file:
            if path.suffix == PARTIAL:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        return True
    return False
