"""Unpacking an image's layers into a directory, when the layers may be hostile (OCI image spec, `layer.md`).

What a layer must not do: write outside the root (`..`, absolute names, links that lead out), leave device nodes
or setuid programs behind, or fill the disk. Names are resolved inside the root by ourselves, link by link, and
never handed to the kernel unresolved; nobody else writes there meanwhile.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, cast

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds

COPY_BYTES = 1 << 20
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
MOUNT_POINTS = ("dev", "etc", "proc", "run", "sys", "tmp", "var/tmp")
"""Made where an image lacks them: a read-only root cannot grow them later."""


class Unpacker:
    """Applies layers, lowest first, to `root`, an empty directory nobody else writes to."""

    def __init__(self, root: Path, *, owner: int | None = None) -> None:
        self._root = root
        self._owner = owner
        """Give every file to this user; None leaves them ours."""
        self._entries = 0
        self._bytes = 0

    def apply(self, blob: Path, media_type: str, diff_id: str) -> None:
        """Unpack one layer and check that its uncompressed bytes are those of `diff_id`.

        Raises `Refused` `image.layer`, `image.digest`, `image.limit` or `image.unsupported`.
        """
        with blob.open("rb") as file:
            opened = _decompress(file, media_type)
            reader = _Hashing(opened)
            made: set[str] = set()
            try:
                with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|", tarinfo=_Member) as archive:
                    for member in archive:
                        self._member(archive, member, made)
                while reader.read(COPY_BYTES):
                    pass
            except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
                raise Refused("image.layer", f"layer {diff_id} is no tar archive: {error}") from None
        found = "sha256:" + reader.digest.hexdigest()
        if found != diff_id:
            raise Refused("image.digest", f"layer unpacks to {found}, the image says {diff_id}")

    def finish(self) -> None:
        """Add the mount points every sandbox needs."""
        for name in MOUNT_POINTS:
            point = self._resolve(name + "/x").parent
            self._give(point)
        self._give(self._root)
        self._root.chmod(0o755)

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, made: set[str]) -> None:
        self._entries += 1
        if self._entries > bounds.IMAGE_ENTRIES:
            raise Refused("image.limit", f"image has more than {bounds.IMAGE_ENTRIES} files")
        name = _clean(member.name)
        if not name:
            return  # the root itself
        target = self._resolve(name)
        base = target.name
        if base == OPAQUE:
            self._clear(target.parent, made)
            return
        if base.startswith(WHITEOUT):
            if base[len(WHITEOUT) :] in ("", ".", ".."):
                raise Refused("image.layer", f"whiteout {member.name!r} names no file")
            _remove(target.with_name(base[len(WHITEOUT) :]))
            return
        if member.isdir():
            self._directory(target, member)
        elif member.isreg():
            self._file(target, archive, member)
        elif member.issym():
            _remove(target)
            target.symlink_to(member.linkname)
        elif member.islnk():
            self._hard_link(target, member)
        else:
            return  # device nodes and pipes: the sandbox brings its own /dev
        self._give(target)
        while target != self._root:
            made.add(str(target))
            target = target.parent

    def _directory(self, target: Path, member: tarfile.TarInfo) -> None:
        if target.is_symlink() or not target.is_dir():
            _remove(target)
            target.mkdir()
        target.chmod(member.mode & 0o1777 | 0o700)

    def _file(self, target: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._bytes += member.size
        if self._bytes > bounds.IMAGE_UNPACKED_BYTES:
            raise Refused("image.limit", f"image unpacks to more than {bounds.IMAGE_UNPACKED_BYTES} bytes")
        _remove(target)
        source = archive.extractfile(member)
        assert source is not None, "a regular file has content"
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            shutil.copyfileobj(source, file, COPY_BYTES)
            os.fchmod(fd, member.mode & 0o777 | 0o400)  # without setuid, setgid
        os.utime(target, (member.mtime, member.mtime))

    def _hard_link(self, target: Path, member: tarfile.TarInfo) -> None:
        source = self._resolve(_clean(member.linkname))
        if not source.is_symlink() and not source.is_file():
            raise Refused("image.layer", f"{member.name!r} links to {member.linkname!r}, which is no file")
        if source != target:
            _remove(target)
            os.link(source, target, follow_symlinks=False)

    def _give(self, target: Path) -> None:
        if self._owner is not None:
            os.chown(target, self._owner, self._owner, follow_symlinks=False)

    def _clear(self, directory: Path, made: set[str]) -> None:
        """Remove what lower layers put into `directory`."""
        for child in sorted(directory.iterdir()):
            if str(child) not in made:
                _remove(child)
            elif child.is_dir() and not child.is_symlink():
                self._clear(child, made)

    def _resolve(self, name: str) -> Path:
        """Where `name` lies: its parents followed inside the root and made where missing, itself not followed."""
        *parents, base = name.split("/")
        todo = parents[::-1]
        here = self._root
        hops = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if here == self._root:
                    raise Refused("image.layer", f"{name!r} leads out of the image")
                here = here.parent
                continue
            step = here / part
            if not step.is_symlink():
                if not step.is_dir():
                    _remove(step)
                    step.mkdir(mode=0o755)
                    self._give(step)
                here = step
                continue
            hops += 1
            if hops > bounds.IMAGE_SYMLINK_HOPS:
                raise Refused("image.layer", f"{name!r} goes round in links")
            link = str(step.readlink())
            here = self._root if link.startswith("/") else here
            todo.extend(reversed([part for part in link.split("/") if part not in ("", ".")]))
        return here / base


class _Hashing:
    """Reads through and hashes, up to a bound: a few kilobytes of gzip can stand for gigabytes."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._left = bounds.IMAGE_UNPACKED_BYTES
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Refused("image.limit", f"layer unpacks to more than {bounds.IMAGE_UNPACKED_BYTES} bytes")
        self.digest.update(data)
        return data


class _Member(tarfile.TarInfo):
    """Extended headers are read into memory whole: bound them before that."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = not (self.isreg() or self.isdir() or self.issym() or self.islnk() or self.isdev())
        if extended and self.size > bounds.IMAGE_HEADER_BYTES:
            raise Refused("image.limit", f"layer has an extended header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member


def _decompress(file: IO[bytes], media_type: str) -> IO[bytes]:
    if media_type.endswith(("+gzip", ".gzip")):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if media_type.endswith(".tar"):
        return file
    raise Refused(
        "image.unsupported", f"layer of type {media_type!r}", hint="push the image with gzip compression"
    )


def _clean(name: str) -> str:
    """A relative name without `.` parts.  Raises `Refused` for one that is absolute or climbs."""
    if name.startswith("/") or len(os.fsencode(name)) > bounds.IMAGE_PATH_BYTES or "\0" in name:
        raise Refused("image.layer", f"{name[:100]!r} is no relative path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused("image.layer", f"{name[:100]!r} leads out of the image")
    return "/".join(parts)


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        remove_tree(target)
    else:
        target.unlink(missing_ok=True)


def remove_tree(top: Path) -> None:
    """Remove `top` and all in it, also what forbids its owner to look inside."""
    for directory, names, _ in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                with contextlib.suppress(PermissionError):
                    os.chmod(path, 0o700)
    shutil.rmtree(top)
