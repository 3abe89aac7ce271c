"""Layers that are honest, and layers that are not."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import sys
import tarfile
from pathlib import Path

import pytest

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.unpack import MOUNT_POINTS, Unpacker, remove_tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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


def pax(name: str, headers: dict[str, str]) -> bytes:
    """A file of one byte with extended headers as they are given."""
    body = b""
    for key, value in headers.items():
        record = f" {key}={value}\n".encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length += 1
        body += str(length).encode() + record
    return layer(entry("pax", tarfile.XHDTYPE, data=body), entry(name, data=b"x"))


class Tree:
    def __init__(self, top: Path) -> None:
        self.outside = top / "outside"
        self.outside.mkdir()
        (self.outside / "kept").write_text("kept")
        self.root = top / "root"
        self.root.mkdir()
        self.unpacker = Unpacker(self.root)

    def apply(self, *entries: tuple[tarfile.TarInfo, bytes]) -> None:
        self.apply_raw(layer(*entries))

    def apply_raw(self, raw: bytes) -> None:
        self.unpacker.apply(io.BytesIO(gzip.compress(raw)), GZIP, f"sha256:{hashlib.sha256(raw).hexdigest()}")

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
        [entry("a/.wh.b/c")],
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
    blob = io.BytesIO(layer(entry("a", data=b"x")))
    with pytest.raises(Refused, match=r"image\.digest"):
        tree.unpacker.apply(blob, PLAIN, "sha256:" + "0" * 64)


def test_a_compression_nobody_here_reads_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"image\.unsupported"):
        tree.unpacker.apply(io.BytesIO(), "application/vnd.oci.image.layer.v1.tar+lz4", "sha256:" + "0" * 64)


def test_layers_may_be_compressed_with_zstd(tree: Tree) -> None:
    raw = layer(entry("a", data=b"x" * 100_000))
    halves = zstd.compress(raw[:5_000]) + zstd.compress(raw[5_000:])
    tree.unpacker.apply(io.BytesIO(halves), f"{PLAIN}+zstd", f"sha256:{hashlib.sha256(raw).hexdigest()}")
    assert (tree.root / "a").read_bytes() == b"x" * 100_000


def test_a_zstd_frame_that_wants_a_gigabyte_of_memory_is_refused(tree: Tree) -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 30}
    compressor = zstd.ZstdCompressor(options=options)
    blob = compressor.compress(layer(entry("a", data=b"x" * 100_000))) + compressor.flush()
    with pytest.raises(Refused, match=r"image\.layer"):
        tree.unpacker.apply(io.BytesIO(blob), f"{PLAIN}+zstd", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip at all",
        gzip.compress(b"no tar" * 200),
        gzip.compress(b"x" * 9)[:9],
        gzip.compress(b"x")[:10] + b"\xff" * 20,
    ],
    ids=["no gzip", "no archive inside", "cut off", "damaged inside"],
)
def test_bytes_that_are_no_archive_are_refused(tree: Tree, content: bytes) -> None:
    with pytest.raises(Refused, match=r"image\.layer"):
        tree.unpacker.apply(io.BytesIO(content), GZIP, "sha256:" + "0" * 64)


def test_images_that_are_too_large_or_have_too_many_files_are_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.unpacker = Unpacker(tree.root, limit=100_000)
    tree.apply(entry("a", data=b"x" * 60_000))
    with pytest.raises(Refused, match=r"image\.limit"):  # both layers together
        tree.apply(entry("b", data=b"x" * 60_000))
    tree.unpacker = Unpacker(tree.root)
    monkeypatch.setattr(bounds, "IMAGE_ENTRIES", 3)
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(*(entry(f"f{n}") for n in range(5)))


def test_an_extended_header_of_megabytes_is_refused_before_it_is_read(tree: Tree) -> None:
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(entry("long", tarfile.GNUTYPE_LONGNAME, data=b"x" * (2 * limits.MIB)), entry("a"))


@pytest.mark.parametrize(
    "kinds",
    [[tarfile.GNUTYPE_LONGNAME] * 2_000, [tarfile.XHDTYPE] * 2_000, [b"V"] * 20, [tarfile.XGLTYPE] * 2_000],
)
def test_extended_headers_without_end_are_refused_before_they_fill_memory_or_stack(
    tree: Tree, kinds: list[bytes]
) -> None:
    entries = [entry(f"h{number}", kind, data=b"x") for number, kind in enumerate(kinds)]
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(*entries, entry("a"))


def test_sparse_files_are_refused_in_every_format(tree: Tree) -> None:
    old = bytearray(layer(entry("a", tarfile.GNUTYPE_SPARSE)))
    old[482] = 1  # the map goes on in the next block, and the next, and never ends
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + 8 * 32 + sum(old[156:512]))
    with pytest.raises(Refused, match=r"image\.layer.*sparse"):
        tree.apply_raw(bytes(old))
    for headers in ({"GNU.sparse.map": "0,1"}, {"GNU.sparse.size": "9"}, {"GNU.sparse.major": "1"}):
        with pytest.raises(Refused, match=r"image\.layer.*sparse"):
            tree.apply_raw(pax("a", {**headers, "GNU.sparse.minor": "0"}))


@pytest.mark.parametrize("headers", [{"size": "-5"}, {"mtime": "inf"}, {"size": "9" * 30}, {"path": "a\0b"}])
def test_headers_that_make_no_sense_are_refused(tree: Tree, headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"image\.(layer|digest)"):
        tree.apply_raw(pax("a", headers))


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/".join(["x" * 255, "y" * 256, "z"]))],
        [link("a", "")],
        [link("a", "x" * 5_000)],
        [entry("a"), entry("a/b", tarfile.LNKTYPE, linkname="a/b")],
    ],
    ids=["long name", "empty link", "long link", "link to itself"],
)
def test_what_no_file_system_takes_is_refused(tree: Tree, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(Refused, match=r"image\.layer"):
        tree.apply(*entries)


def test_directories_are_not_nested_without_end_not_even_by_links(tree: Tree) -> None:
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(entry("/".join("a" * 400), tarfile.DIRTYPE))
    half = "/".join("b" * 150)
    with pytest.raises(Refused, match=r"image\.limit"):
        tree.apply(entry(half, tarfile.DIRTYPE), link("link", half), entry(f"link/{half}/x"))


def test_a_whiteout_hides_what_lower_layers_brought_and_nothing_of_its_own(tree: Tree) -> None:
    tree.apply(entry("dir/old"), entry("file", data=b"old"))
    tree.apply(entry("dir/new"), entry("file", data=b"new"), entry(".wh.dir"), entry(".wh.file"))
    assert tree.names() == {"dir", "dir/new", "file"}
    assert (tree.root / "file").read_bytes() == b"new"
    tree.apply(entry(".wh.dir"), entry("dir/newer"))
    assert tree.names() == {"dir", "dir/newer", "file"}


def test_whiteouts_and_opaque_directories_reach_through_links_of_the_image_and_no_further(tree: Tree) -> None:
    tree.apply(entry("real/a"), entry("real/b"), link("link", "real"), link("out", str(tree.outside)))
    tree.apply(entry("link/.wh.a"), entry("out/.wh..wh..opq"), entry("out/.wh.kept"))
    assert (tree.outside / "kept").read_text() == "kept"
    assert {"real/b", "link"} <= tree.names()
    assert "real/a" not in tree.names()


def test_hard_links_stay_links_and_a_later_layer_changes_only_the_name_it_names(tree: Tree) -> None:
    tree.apply(entry("one", data=b"1"), entry("two", tarfile.LNKTYPE, linkname="one"))
    assert (tree.root / "one").stat().st_ino == (tree.root / "two").stat().st_ino
    tree.apply(entry("two", data=b"2"))
    assert (tree.root / "one").read_bytes() == b"1"


def test_a_hard_link_to_a_symbolic_link_is_one_to_the_link_itself(tree: Tree) -> None:
    tree.apply(link("out", str(tree.outside / "kept")), entry("hard", tarfile.LNKTYPE, linkname="out"))
    assert (tree.root / "hard").is_symlink()
    assert (tree.outside / "kept").stat().st_nlink == 1


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
