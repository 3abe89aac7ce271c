"""Unpacking an image's layers into a directory, when the layers may be hostile (OCI image spec, `layer.md`).

What a layer must not do: write outside the root (`..`, absolute names, links that lead out), leave device nodes
or setuid programs behind, or fill the disk or the memory. Names are resolved inside the root by ourselves, link by
link, and never handed to the kernel unresolved; nobody else writes there meanwhile.

Left out on purpose: owners (all is given to the sandbox's user), extended attributes (capabilities among them),
devices and pipes. Refused: sparse files, which the specification advises against.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import stat
import sys
import tarfile
import zlib
from pathlib import Path
from typing import IO, cast

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""For which no layer is to blame."""
BROKEN = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError, ValueError, OverflowError)
COPY_BYTES = 1 << 20
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
EXTENDED = 8
"""Extended headers of one file."""
PAX_GLOBALS = 1_000
ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 27}
MOUNT_POINTS = ("dev", "etc", "proc", "run", "sys", "tmp", "var/tmp")
MOUNT_FILES = ("etc/hosts", "etc/resolv.conf")
"""Made where an image lacks them: a read-only root cannot grow them later."""


class Unpacker:
    """Applies layers, lowest first, to `root`, an empty directory nobody else writes to."""

    def __init__(self, root: Path, *, owner: int | None = None, limit: int | None = None) -> None:
        self._root = root
        self._owner = owner
        """Give every file to this user; None leaves them ours."""
        self._limit = bounds.IMAGE_UNPACKED_BYTES if limit is None else limit
        """Bytes that all layers together may come to."""
        self._entries = 0
        self._bytes = 0
        self._folder: tuple[str, Path] | None = None
        """The last folder that was looked for, and where it is: most files lie where the one before them does."""

    def apply(self, blob: IO[bytes], media_type: str, diff_id: str) -> None:
        """Unpack one layer and check that its uncompressed bytes are those of `diff_id`.

        Raises `Refused` `image.layer`, `image.digest`, `image.limit`, `image.disk` or `image.unsupported`.
        """
        reader = _Hashing(_decompress(blob, media_type), self._limit - self._bytes)
        made: set[str] = set()
        try:
            with _Archive.open(fileobj=cast("IO[bytes]", reader), mode="r|", tarinfo=_Member) as archive:
                for member in archive:
                    self._member(archive, member, made)
                    archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            while reader.read(COPY_BYTES):
                pass
        except BROKEN as error:
            raise Refused("image.layer", f"layer {diff_id} is no tar archive: {str(error)[:100]!r}") from None
        except OSError as error:
            code = "image.disk" if error.errno in DISK_ERRORS else "image.layer"
            raise Refused(code, f"layer {diff_id} cannot be unpacked: {error.strerror}") from None
        self._bytes += reader.bytes
        found = "sha256:" + reader.digest.hexdigest()
        if found != diff_id:
            raise Refused("image.digest", f"layer unpacks to {found}, the image says {diff_id}")

    def finish(self) -> None:
        """Add the mount points every sandbox needs."""
        for name in MOUNT_POINTS:
            point = self._resolve(name + "/x").parent
            self._give(point)
        for name in MOUNT_FILES:
            file = self._resolve(name)
            if not file.exists() and not file.is_symlink():
                file.touch(mode=0o644)
                self._give(file)
        self._give(self._root)
        self._root.chmod(0o755)

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo, made: set[str]) -> None:
        self._entries += 1
        if self._entries > bounds.IMAGE_ENTRIES:
            raise Refused("image.limit", f"image has more than {bounds.IMAGE_ENTRIES} files")
        name = _clean(member.name)
        if member.size < 0:
            raise tarfile.HeaderError(f"{member.name!r} has {member.size} bytes")
        if not name:
            return  # the root itself
        if any(part.startswith(WHITEOUT) for part in name.split("/")[:-1]):
            raise Refused("image.layer", f"{name[:100]!r} lies in a whiteout")
        if not member.isreg():
            self._folder = None  # it may change where names lead
        target = self._resolve(name)
        base = target.name
        if base == OPAQUE:
            self._clear(target.parent, made)
            return
        if base.startswith(WHITEOUT):
            if base[len(WHITEOUT) :] in ("", ".", ".."):
                raise Refused("image.layer", f"whiteout {member.name!r} names no file")
            self._whiten(target.with_name(base[len(WHITEOUT) :]), made)
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
        while target != self._root and str(target) not in made:
            made.add(str(target))
            target = target.parent

    def _directory(self, target: Path, member: tarfile.TarInfo) -> None:
        if target.is_symlink() or not target.is_dir():
            _remove(target)
            target.mkdir()
        target.chmod(member.mode & 0o1777 | 0o700)

    def _file(self, target: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        _remove(target)
        source = archive.extractfile(member)
        assert source is not None, "a regular file has content"
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            shutil.copyfileobj(source, file, COPY_BYTES)
            os.fchmod(fd, member.mode & 0o777 | 0o400)  # without setuid, setgid
        os.utime(target, (max(0, member.mtime), max(0, member.mtime)))

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
            self._whiten(child, made)

    def _whiten(self, target: Path, made: set[str]) -> None:
        """Remove what lower layers put at `target`: what this one brings stays, wherever in it the whiteout is."""
        if str(target) not in made:
            _remove(target)
        elif target.is_dir() and not target.is_symlink():
            self._clear(target, made)

    def _resolve(self, name: str) -> Path:
        """Where `name` lies: its parents followed inside the root and made where missing, itself not followed."""
        folder, _, base = name.rpartition("/")
        if self._folder is None or self._folder[0] != folder:
            self._folder = folder, self._resolve_folder(folder)
        return self._folder[1] / base

    def _resolve_folder(self, name: str) -> Path:
        todo = name.split("/")[::-1] if name else []
        here = self._root
        hops = depth = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if here == self._root:
                    raise Refused("image.layer", f"{name[:100]!r} leads out of the image")
                here, depth = here.parent, depth - 1
                continue
            depth += 1
            if depth > bounds.IMAGE_PATH_DEPTH:
                raise Refused(
                    "image.limit", f"{name[:100]!r} lies deeper than {bounds.IMAGE_PATH_DEPTH} directories"
                )
            step = here / part
            if not step.is_symlink():
                if not step.is_dir():
                    if part.startswith(WHITEOUT):  # where a link leads
                        raise Refused("image.layer", f"{name[:100]!r} leads into a whiteout")
                    _remove(step)
                    step.mkdir(mode=0o755)
                    self._give(step)
                here = step
                continue
            hops, depth = hops + 1, depth - 1
            if hops > bounds.IMAGE_SYMLINK_HOPS:
                raise Refused("image.layer", f"{name!r} goes round in links")
            link = str(step.readlink())
            if link.startswith("/"):
                here, depth = self._root, 0
            todo.extend(reversed([part for part in link.split("/") if part not in ("", ".")]))
        return here


class _Hashing:
    """Reads through and hashes, up to a bound: a few kilobytes of gzip can stand for gigabytes."""

    def __init__(self, source: IO[bytes], limit: int) -> None:
        self._source = source
        self._limit = limit
        self.bytes = 0
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.bytes += len(data)
        if self.bytes > self._limit:
            raise Refused("image.limit", "the image unpacks to more bytes than this provider has for it")
        self.digest.update(data)
        return data


class _Archive(tarfile.TarFile):
    """Counts the extended headers that come before a member: each is handled within the one before."""

    extended = 0
    extended_bytes = 0


class _Member(tarfile.TarInfo):
    """Bounds what `tarfile` reads into memory before it gives a member back: extended headers, sparse maps."""

    def _proc_member(self, archive: _Archive) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse()
        if self.isreg() or self.isdir() or self.issym() or self.islnk() or self.isdev():
            archive.extended = archive.extended_bytes = 0
        else:
            archive.extended += 1
            archive.extended_bytes += abs(self.size)
            if archive.extended > EXTENDED or archive.extended_bytes > bounds.IMAGE_HEADER_BYTES:
                raise Refused("image.limit", "a layer has more extended headers than a file needs")
            if len(archive.pax_headers) > PAX_GLOBALS:
                raise Refused("image.limit", f"a layer has more than {PAX_GLOBALS} global headers")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member

    def _proc_gnusparse_00(self, *_: object) -> None:
        raise _sparse()

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _sparse() -> Refused:
    return Refused("image.layer", "the layer has a sparse file", hint="build it again without sparse files")


def _decompress(file: IO[bytes], media_type: str) -> IO[bytes]:
    if media_type.endswith(("+gzip", ".gzip")):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if media_type.endswith("+zstd"):
        # A frame may ask for a window of gigabytes: bounded, as the zstd command does.
        return cast("IO[bytes]", zstd.ZstdFile(file, options=ZSTD_OPTIONS))
    if media_type.endswith(".tar"):
        return file
    raise Refused(
        "image.unsupported", f"layer of type {media_type[:100]!r}", hint="push the image with gzip compression"
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
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        remove_tree(target)
    else:
        target.unlink()


def remove_tree(top: Path) -> None:
    """Remove `top` and all in it, also what forbids its owner to look inside."""
    for directory, names, _ in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if not stat.S_ISLNK(os.lstat(path).st_mode):
                with contextlib.suppress(PermissionError):
                    os.chmod(path, 0o700)
    shutil.rmtree(top)
