"""An unpacked image as docker takes it: one layer, streamed, and never whole in memory.

Docker cannot run a folder. So the tree that our own store verified and unpacked is imported, once for each image,
under a name that says whose it is; where it came from, and by which digests, has been settled by then.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 512
CHUNK_BYTES = 1 << 20


def archive(root: Path) -> Iterator[bytes]:
    """All below `root` as a tar archive in parts of about `CHUNK_BYTES`, everything owned by root inside.

    Nothing there changes meanwhile. Blocks: run it in a thread.
    """
    parts, size = [], 0
    for part in _parts(root):
        parts.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join([*parts, bytes(2 * BLOCK_BYTES)])


def _parts(root: Path) -> Iterator[bytes]:
    named: dict[tuple[int, int], str] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                name, found = f"{folder}{entry.name}", entry.stat(follow_symlinks=False)
                member = _member(name, found)
                if stat.S_ISDIR(found.st_mode):
                    member.type = tarfile.DIRTYPE
                    waiting.append(f"{name}/")
                elif stat.S_ISLNK(found.st_mode):
                    member.type, member.linkname = tarfile.SYMTYPE, os.readlink(entry.path)
                elif not stat.S_ISREG(found.st_mode):
                    continue  # our store leaves neither devices nor pipes
                elif found.st_nlink > 1 and (found.st_dev, found.st_ino) in named:
                    member.type, member.linkname = tarfile.LNKTYPE, named[found.st_dev, found.st_ino]
                else:
                    if found.st_nlink > 1:
                        named[found.st_dev, found.st_ino] = name
                    member.size = found.st_size
                yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
                if member.size:
                    yield from _content(entry.path, member.size)


def _member(name: str, found: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(found.st_mode)
    member.mtime = int(found.st_mtime)
    return member


def _content(path: str, size: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        left = size
        while left:
            data = file.read(min(CHUNK_BYTES, left))
            if not data:
                raise OSError(f"{path} became shorter")
            left -= len(data)
            yield data
    if size % BLOCK_BYTES:
        yield bytes(BLOCK_BYTES - size % BLOCK_BYTES)
