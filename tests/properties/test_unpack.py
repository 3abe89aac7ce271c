"""Layers that anything may be in: what is unpacked stays in its folder, and what is wrong is refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes.unpack import Unpacker

PLAIN = "application/vnd.oci.image.layer.v1.tar"
PARTS = ["a", "b", "..", ".", "", "up", "abs", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh...", ".wh.", "é", "x" * 300]
KINDS = [
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.GNUTYPE_SPARSE,
    tarfile.CONTTYPE,
    b"Z",
]
names = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("/".join)
OUTSIDE = "OUTSIDE"
"""Stands for the absolute path of a folder that must not be touched."""
targets = st.one_of(
    names, st.sampled_from(["/", OUTSIDE, f"{OUTSIDE}/kept", "../outside", "../../..", "/etc/passwd"])
)
members = st.tuples(names, st.sampled_from(KINDS), targets, st.integers(0, 0o7777), st.binary(max_size=20))
layers = st.lists(st.lists(members, max_size=12), min_size=1, max_size=3)


def archive(entries: list[tuple[str, bytes, str, int, bytes]], outside: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, kind, target, mode, data in entries:
            member = tarfile.TarInfo(name or ".")
            member.type, member.mode = kind, mode
            member.linkname = target.replace(OUTSIDE, str(outside))
            member.size = len(data) if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else 0
            made.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def apply(unpacker: Unpacker, raw: bytes) -> None:
    unpacker.apply(io.BytesIO(raw), PLAIN, f"sha256:{hashlib.sha256(raw).hexdigest()}")


def untouched(outside: Path) -> bool:
    kept = outside / "kept"
    return (
        os.listdir(outside) == ["kept"]
        and kept.read_text() == "kept"
        and kept.stat().st_nlink == 1
        and stat.S_IMODE(outside.stat().st_mode) == 0o711
    )


@given(layers)
@example([[("a", tarfile.SYMTYPE, ".wh.a", 0o777, b""), ("a/b", tarfile.REGTYPE, "", 0o644, b"")]])
def test_whatever_is_in_layers_nothing_outside_is_touched_and_nothing_special_arrives(
    layers: list[list[tuple[str, bytes, str, int, bytes]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder, "root"), Path(folder, "outside")
        root.mkdir()
        outside.mkdir(mode=0o711)
        outside.chmod(0o711)
        (outside / "kept").write_text("kept")
        unpacker = Unpacker(root)
        with contextlib.suppress(Refused):
            for entries in layers:
                apply(unpacker, archive(entries, outside))
            unpacker.finish()
        assert untouched(outside)
        assert sorted(os.listdir(folder)) == ["outside", "root"]
        for path in root.rglob("*"):
            found = path.lstat()
            assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)
            assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID)
            assert not path.name.startswith(".wh.")


@given(st.data())
def test_an_archive_with_damaged_bytes_is_refused_or_unpacked_and_nothing_else(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder, "root"), Path(folder, "outside")
        root.mkdir()
        whole = bytearray(
            archive(
                [("a/b", tarfile.REGTYPE, "", 0o644, b"data"), ("l" * 150, tarfile.SYMTYPE, "a", 0, b"")], outside
            )
        )
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, min(len(whole), 3_072) - 1))
            whole[at] = data.draw(st.integers(0, 255))
            block = at // 512 * 512
            if data.draw(st.booleans()):  # as somebody would who means it
                checksum = sum(whole[block : block + 148]) + 8 * 32 + sum(whole[block + 156 : block + 512])
                whole[block + 148 : block + 156] = b"%06o\0 " % checksum
        with contextlib.suppress(Refused):
            apply(Unpacker(root), bytes(whole))
        assert os.listdir(folder) == ["root"]
