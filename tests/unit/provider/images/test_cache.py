"""The room that images have: what goes first, what stays, and what a killed process leaves."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from fondaco.protocol.errors import Refused
from fondaco.provider.images.cache import PARTIAL_KEPT_S, ImageCache, Record, tree_bytes
from fondaco.provider.runtimes.port import ImageConfig

CONFIG = ImageConfig(entrypoint=("/a",), cmd=("b", "c"), env=("D=e",), working_dir="/")
PAGE = 4_096
IMAGE_BYTES = 10 * PAGE


class Room:
    """A cache with images of ten pages, used one after the other."""

    def __init__(self, top: Path, cap_bytes: int = 1 << 30) -> None:
        self.top = top / "images"
        self.top.mkdir(exist_ok=True)
        (self.top / "blobs").mkdir(exist_ok=True)
        self.in_use: set[str] = set()
        self.cache = ImageCache(self.top, cap_bytes=cap_bytes, in_use=lambda: self.in_use)
        self._clock = 1_000

    def image(self, number: int, reference: str = "", *, shared: bool = True) -> Record:
        key = f"{number:064x}"
        (self.top / key).mkdir()
        (self.top / key / "file").write_bytes(os.urandom(IMAGE_BYTES - PAGE))
        record = Record(
            key=key,
            digest=f"sha256:{key}",
            references=(reference or f"docker.io/library/app{number}:1",),
            shared=shared,
            config=CONFIG,
        )
        self.cache.used(record, IMAGE_BYTES)
        self.touch(self.top / f"{key}.json")
        return record

    def blob(self, name: str, pages: int) -> Path:
        path = self.top / "blobs" / name
        path.write_bytes(os.urandom(pages * PAGE))
        self.touch(path)
        return path

    def touch(self, path: Path) -> None:
        self._clock += 1
        os.utime(path, (self._clock, self._clock))

    def names(self) -> list[str]:
        """What is there, what was used longest ago first."""
        return [item.path.name.lstrip("0") for item in self.cache.items()]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_what_was_used_longest_ago_goes_first_and_no_more_than_has_to(tmp_path: Path) -> None:
    room = Room(tmp_path, cap_bytes=35 * PAGE)
    for number in (1, 2, 3):
        room.image(number)
    blob = room.blob("ab", 2)
    room.touch(room.top / f"{1:064x}.json")
    assert room.names() == ["2", "3", "ab", "1"]
    assert room.cache.make_room(3 * PAGE) == []
    assert [item.path.name.lstrip("0") for item in room.cache.make_room(13 * PAGE)] == ["2"]
    assert room.cache.make_room(17 * PAGE)[-1].path.name == f"{3:064x}"
    assert blob.exists()
    assert sorted(path.name.lstrip("0") for path in room.top.iterdir()) == ["1", "1.json", "blobs"]


def test_an_image_in_use_or_on_the_way_to_it_stays_whatever_is_asked_for(tmp_path: Path) -> None:
    room = Room(tmp_path, cap_bytes=30 * PAGE)
    used, held = room.image(1), room.image(2)
    room.image(3)
    room.in_use.add(used.key)
    with room.cache.hold(room.top / held.key):
        another = ImageCache(room.top, cap_bytes=0, in_use=lambda: room.in_use)  # as the command line's
        assert [item.path.name.lstrip("0") for item in another.make_room(0)] == ["3"]
        with pytest.raises(Refused, match=r"image\.room"):
            room.cache.make_room(11 * PAGE)
    assert room.names() == ["1", "2"]
    room.cache.make_room(11 * PAGE)
    assert room.names() == ["1"]
    with pytest.raises(FileNotFoundError), room.cache.hold(room.top / held.key):
        pass


def test_who_began_to_use_an_image_while_it_was_about_to_go_keeps_it(room: Room) -> None:
    """The folders of workloads are looked at again once nobody can begin any more."""
    record = room.image(1)
    (item,) = room.cache.items()
    late = ImageCache(room.top, cap_bytes=0, in_use=lambda: {record.key})
    assert not late.remove(item)
    assert room.names() == ["1"]


def test_for_an_image_that_cannot_fit_nothing_is_removed_in_vain(tmp_path: Path) -> None:
    room = Room(tmp_path, cap_bytes=30 * PAGE)
    room.in_use.add(room.image(1).key)
    room.image(2)
    with pytest.raises(Refused, match=r"image\.room"):
        room.cache.make_room(25 * PAGE)
    assert room.names() == ["1", "2"]


def test_room_that_was_promised_is_promised_to_nobody_else(tmp_path: Path) -> None:
    room = Room(tmp_path, cap_bytes=20 * PAGE)
    room.image(1)
    with room.cache.room(8 * PAGE):
        assert room.names() == ["1"]
        with room.cache.room(8 * PAGE):
            assert room.names() == []
            with pytest.raises(Refused, match=r"image\.room"), room.cache.room(5 * PAGE):
                pass
    with room.cache.room(20 * PAGE):
        pass


def test_an_image_may_unpack_to_what_those_in_use_leave(tmp_path: Path) -> None:
    room = Room(tmp_path, cap_bytes=25 * PAGE)
    room.image(1)
    room.in_use.add(room.image(2).key)
    assert room.cache.largest() == 15 * PAGE
    room.in_use.add(f"{1:064x}")
    assert room.cache.largest() == 5 * PAGE


def test_a_name_is_the_image_it_was_given_to_last(room: Room) -> None:
    first = room.image(1, "docker.io/a/b:1")
    second = room.image(2, "docker.io/a/b:1")
    found = room.cache.find("docker.io/a/b:1")
    assert found is not None
    assert (found.key, found.config) == (second.key, CONFIG)
    room.cache.used(first)
    found = room.cache.find("docker.io/a/b:1")
    assert found is not None
    assert found.key == first.key
    assert [record.references for record in room.cache.records()] == [(), ("docker.io/a/b:1",)]


def test_what_only_some_may_have_is_found_by_nobody_else(room: Room) -> None:
    private = room.image(1, "docker.io/a/b:1", shared=False)
    assert room.cache.find("docker.io/a/b:1") is None
    shared = room.image(2, "docker.io/a/b:1")
    found = room.cache.find("docker.io/a/b:1")
    assert found is not None
    assert found.key == shared.key
    assert room.cache._read(private.key) is not None


def test_a_download_under_way_stays_and_one_that_is_read_may_go(tmp_path: Path) -> None:
    room = Room(tmp_path, cap_bytes=0)
    whole, partial, abandoned = room.blob("aa", 2), room.blob("ab.partial", 2), room.blob("ac.partial", 2)
    with partial.open("rb") as writing, whole.open("rb") as reading:
        fcntl.flock(writing, fcntl.LOCK_EX)
        room.cache.make_room(0)
        assert [path.name for path in (room.top / "blobs").iterdir()] == [partial.name]
        assert len(reading.read()) == 2 * PAGE
    assert not abandoned.exists()


def test_what_a_killed_process_left_is_swept_away_and_what_can_be_gone_on_with_is_not(room: Room) -> None:
    room.image(1)
    for name in (f"{2:064x}.partial", f"{3:064x}.removed"):
        (room.top / name / "locked").mkdir(parents=True)
        (room.top / name / "locked" / "file").write_text("")
        (room.top / name / "locked").chmod(0)
    (room.top / f"{4:064x}.json").write_text("{}")
    (room.top / "abcdef.tmp").write_text("")
    fresh, old = room.blob("fresh.partial", 1), room.blob("old.partial", 1)
    os.utime(fresh)
    old_at = fresh.stat().st_mtime - PARTIAL_KEPT_S - 1
    os.utime(old, (old_at, old_at))
    room.cache.sweep()
    assert sorted(path.name.lstrip("0") for path in room.top.iterdir()) == [".lock", "1", "1.json", "blobs"]
    assert [path.name for path in (room.top / "blobs").iterdir()] == ["fresh.partial"]


def test_nothing_is_swept_away_while_somebody_unpacks(room: Room) -> None:
    (room.top / f"{2:064x}.partial").mkdir()
    with (room.top / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        room.cache.sweep()
    assert (room.top / f"{2:064x}.partial").is_dir()


def test_an_image_without_a_record_takes_room_too_and_gets_one_when_it_is_used(tmp_path: Path) -> None:
    room = Room(tmp_path)
    record = room.image(1)
    path = room.top / f"{record.key}.json"
    for lost in ("", "{"):  # by an older version, or a crash of the machine
        path.write_text(lost) if lost else path.unlink()
        (item,) = room.cache.items()
        assert (item.size_bytes, item.record) == (IMAGE_BYTES, None)
        assert room.cache.find(record.references[0]) is None
        room.cache.used(record)
        assert room.cache.find(record.references[0]) is not None


def test_a_file_with_two_names_takes_its_room_once(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "one").write_bytes(bytes(range(256)) * 64)
    before = tree_bytes(tmp_path / "tree")
    os.link(tmp_path / "tree" / "one", tmp_path / "tree" / "two")
    assert tree_bytes(tmp_path / "tree") == before


def test_a_cache_that_was_never_written_to_is_empty(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "nowhere")
    assert cache.items() == []
    assert cache.records() == []
    assert cache.find("a") is None
