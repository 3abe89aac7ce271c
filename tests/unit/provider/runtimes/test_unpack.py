"""Layers that are honest, and layers that are not."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.unpack import MOUNT_POINTS, Unpacker, remove_tree

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, len(data), 0o755
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Tree:
    def __init__(self, top: Path) -> None:
        self.outside = top / "outside"
        self.outside.mkdir()
        (self.outside / "kept").write_text("kept")
        self.root = top / "root"
        self.root.mkdir()
        self.unpacker = Unpacker(self.root)
        self._blob = top / "blob"

    def apply(self, *entries: tuple[tarfile.TarInfo, bytes]) -> None:
        raw = layer(*entries)
        self._blob.write_bytes(gzip.compress(raw))
        self.unpacker.apply(self._blob, GZIP, f"sha256:{hashlib.sha256(raw).hexdigest()}")

    def names(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_files_directories_and_links_are_unpacked_and_later_layers_win(tree: Tree) -> None:
    tree.apply(
        entry("./", tarfile.DIRTYPE),
        entry("usr", tarfile.DIRTYPE),
        entry("usr/bin/tool", data=b"one"),
        link("bin", "usr/bin"),
        link("etc/absolute", "/usr/bin/tool"),
        entry("usr/hard", tarfile.LNKTYPE, linkname="usr/bin/tool"),
    )
    tree.apply(entry("bin/tool", data=b"two"), entry("bin/other", data=b"x"))
    assert (tree.root / "usr/bin/tool").read_bytes() == b"two"
    assert (tree.root / "usr/bin/other").read_bytes() == b"x"
    assert (tree.root / "usr/hard").read_bytes() == b"one"
    assert (tree.root / "bin").readlink() == Path("usr/bin")
    assert (tree.root / "etc/absolute").is_symlink()


def test_setuid_bits_devices_and_pipes_do_not_arrive(tree: Tree) -> None:
    tree.apply(
        entry("su", data=b"x", mode=0o6755),
        entry("tmp", tarfile.DIRTYPE, mode=0o3777),
        entry("disk", tarfile.BLKTYPE, devmajor=8),
        entry("console", tarfile.CHRTYPE, devmajor=5),
        entry("pipe", tarfile.FIFOTYPE),
    )
    assert tree.names() == {"su", "tmp"}
    assert stat.S_IMODE((tree.root / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree.root / "tmp").stat().st_mode) == 0o1777


def test_whiteouts_remove_what_lower_layers_brought(tree: Tree) -> None:
    tree.apply(*(entry(name, data=b"1") for name in ("a/one", "a/two", "b/old", "b/deep/old", "c/x")))
    tree.apply(
        entry("a/.wh.one"),
        entry("b/deep/new", data=b"2"),
        entry("b/new", data=b"2"),
        entry("b/.wh..wh..opq"),
        entry(".wh.c"),
        entry(".wh.never-there"),
    )
    assert tree.names() == {"a", "a/two", "b", "b/new", "b/deep", "b/deep/new"}


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../evil", data=b"x")],
        [entry("a/../../evil", data=b"x")],
        [entry("/etc/evil", data=b"x")],
        [link("up", "../outside"), entry("up/evil", data=b"x")],
        [link("up", "../../../../../../../.."), entry("up/tmp/evil", data=b"x")],
        [link("a", "b"), link("b", "a"), entry("a/evil", data=b"x")],
        [entry("hard", tarfile.LNKTYPE, linkname="../outside/kept")],
        [link("up", "../outside"), entry("hard", tarfile.LNKTYPE, linkname="up/kept")],
        [entry("hard", tarfile.LNKTYPE, linkname="nothing/there")],
        [entry("../.wh.outside")],
        [entry("a/.wh...")],
        [entry("x" * 5_000, data=b"x")],
    ],
)
def test_a_layer_that_leads_out_of_the_image_is_refused(
    tree: Tree, entries: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    with pytest.raises(Refused, match=r"image\.layer"):
        tree.apply(*entries)
    assert [path.name for path in tree.outside.iterdir()] == ["kept"]
    assert (tree.outside / "kept").read_text() == "kept"


def test_an_absolute_link_stays_inside_the_image(tree: Tree) -> None:
    tree.apply(link("lib", str(tree.outside)), entry("lib/file", data=b"x"))
    assert [path.name for path in tree.outside.iterdir()] == ["kept"]
    assert (tree.root / str(tree.outside).lstrip("/") / "file").read_bytes() == b"x"


def test_writing_over_a_link_replaces_the_link_and_not_its_target(tree: Tree) -> None:
    tree.apply(link("file", str(tree.outside / "kept")))
    tree.apply(entry("file", data=b"new"))
    assert (tree.outside / "kept").read_text() == "kept"
    assert (tree.root / "file").read_bytes() == b"new"


def test_content_that_differs_from_its_diff_id_is_refused(tree: Tree, tmp_path: Path) -> None:
    blob = tmp_path / "other"
    blob.write_bytes(layer(entry("a", data=b"x")))
    with pytest.raises(Refused, match=r"image\.digest"):
        tree.unpacker.apply(blob, PLAIN, "sha256:" + "0" * 64)


def test_a_compression_nobody_here_reads_is_refused(tree: Tree, tmp_path: Path) -> None:
    blob = tmp_path / "zstd"
    blob.write_bytes(b"")
    with pytest.raises(Refused, match=r"image\.unsupported"):
        tree.unpacker.apply(blob, "application/vnd.oci.image.layer.v1.tar+zstd", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(b"no tar" * 200), gzip.compress(b"x" * 9)[:9]],
    ids=["no gzip", "no archive inside", "cut off"],
)
def test_bytes_that_are_no_archive_are_refused(tree: Tree, tmp_path: Path, content: bytes) -> None:
    blob = tmp_path / "broken"
    blob.write_bytes(content)
    with pytest.raises(Refused, match=r"image\.layer"):
        tree.unpacker.apply(blob, GZIP, "sha256:" + "0" * 64)


def test_images_that_are_too_large_or_have_too_many_files_are_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "IMAGE_UNPACKED_BYTES", 100_000)
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(entry("a", data=b"x" * 60_000), entry("b", data=b"x" * 60_000))
    monkeypatch.setattr(bounds, "IMAGE_ENTRIES", 3)
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(*(entry(f"f{n}") for n in range(5)))


def test_an_extended_header_of_megabytes_is_refused_before_it_is_read(tree: Tree) -> None:
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(entry("long", tarfile.GNUTYPE_LONGNAME, data=b"x" * (2 * limits.MIB)), entry("a"))


def test_the_mount_points_of_a_sandbox_are_always_there(tree: Tree) -> None:
    tree.apply(entry("usr/bin", tarfile.DIRTYPE))
    tree.unpacker.finish()
    assert all((tree.root / name).is_dir() for name in MOUNT_POINTS)


def test_a_tree_that_forbids_looking_inside_is_removed_all_the_same(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "locked" / "inner").mkdir(parents=True)
    (top / "link").symlink_to(tmp_path)
    (top / "locked").chmod(0)
    remove_tree(top)
    assert os.listdir(tmp_path) == []
