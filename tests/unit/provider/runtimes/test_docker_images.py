"""An image's tree as one layer for docker."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from fondaco.provider.runtimes.docker_engine import spoken
from fondaco.provider.runtimes.docker_images import CHUNK_BYTES, archive


def members(root: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive(root))), errors="surrogateescape") as found:
        return {member.name: member for member in found.getmembers()}


def test_a_tree_arrives_as_it_was_but_for_owners(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "deep"
    folder.mkdir(parents=True)
    folder.chmod(0o711)
    (folder / "run").write_bytes(b"x" * (CHUNK_BYTES + 700))
    (folder / "run").chmod(0o755)
    os.link(folder / "run", tmp_path / "again")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "out").symlink_to(tmp_path.parent)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    long = "n" * 200
    (tmp_path / long).write_text("long")
    strange = b"\xff\xfe"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + strange)).write_text("strange")
    found = members(tmp_path)
    names = {"a", "a/deep", "a/deep/run", "again", "link", "out", "empty", long, os.fsdecode(strange)}
    assert set(found) == names
    assert {(one.uid, one.gid) for one in found.values()} == {(0, 0)}
    assert (found["a/deep"].isdir(), found["a/deep"].mode) == (True, 0o711)
    one, other = found["again"], found["a/deep/run"]
    assert {one.islnk(), other.islnk()} == {True, False}
    kept = other if one.islnk() else one
    assert (kept.size, kept.mode) == (CHUNK_BYTES + 700, 0o755)
    assert found["link"].linkname == "/etc/passwd"
    assert found["out"].issym()
    assert found[long].size == 4


def test_parts_are_small_whatever_the_file(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(8 * CHUNK_BYTES)
    parts = list(archive(tmp_path))
    assert max(map(len, parts)) < 3 * CHUNK_BYTES
    assert len(b"".join(parts)) % 512 == 0


@pytest.mark.parametrize(
    ("oldest", "newest", "both"),
    [
        ("1.12", "1.41", "1.41"),
        ("1.24", "1.47", "1.47"),
        ("1.44", "1.52", "1.52"),
        ("1.44", "1.60", "1.52"),
        ("1.12", "1.40", None),
        ("1.53", "1.60", None),
        ("", "no", None),
    ],
)
def test_the_newest_interface_that_both_know_is_spoken(oldest: str, newest: str, both: str | None) -> None:
    assert spoken({"MinAPIVersion": oldest, "ApiVersion": newest}) == both
