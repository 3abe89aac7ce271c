"""The shim's log and its reader, without a sandbox between them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.logs import LogReader, begin_run, keep, parse, parse_conmon, parse_docker, point
from fondaco.provider.runtimes.port import Channel, LogLine
from fondaco.provider.runtimes.shim import Log, Recipe


def log(directory: Path, *, file_bytes: int = 1_000, line_bytes: int = 100) -> Log:
    bounds = {"log_file_bytes": file_bytes, "log_files": 4, "log_line_bytes": line_bytes}
    recipe: Recipe = {"log_dir": str(directory), **bounds}  # type: ignore[typeddict-item]
    return Log(recipe)


async def read(directory: Path, tail: int | None = None) -> list[LogLine]:
    return [line async for line in LogReader(directory, tail=tail, follow=False, running=lambda: False)]


async def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    written = log(tmp_path)
    written.feed("o", b"first\nsec")
    written.feed("e", b"bad \xff\n")
    written.feed("o", b"ond\n\n")
    written.close()
    lines = await read(tmp_path)
    assert [(line.channel, line.text) for line in lines] == [
        (Channel.OUT, "first"),
        (Channel.ERR, "bad \ufffd"),
        (Channel.OUT, "second"),
        (Channel.OUT, ""),
    ]
    assert all(line.at >= before and not line.partial for line in lines)


async def test_a_line_that_is_too_long_comes_in_parts(tmp_path: Path) -> None:
    written = log(tmp_path, line_bytes=10)
    written.feed("o", b"0123456789abc\n")
    written.feed("o", b"x" * 25)
    written.close()
    lines = await read(tmp_path)
    assert [(line.text, line.partial) for line in lines] == [
        ("0123456789", True),
        ("abc", False),
        ("x" * 10, True),
        ("x" * 10, True),
        ("x" * 5, True),
    ]


async def test_rotation_keeps_the_newest_lines_within_the_bound(tmp_path: Path) -> None:
    written = log(tmp_path, file_bytes=200)
    for number in range(100):
        written.feed("o", b"line %d\n" % number)
    written.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * 200
    texts = [line.text for line in await read(tmp_path)]
    assert texts == [f"line {number}" for number in range(100 - len(texts), 100)]
    assert [line.text for line in await read(tmp_path, tail=3)] == ["line 97", "line 98", "line 99"]
    assert await read(tmp_path, tail=0) == []


@pytest.mark.parametrize("burst", [1, 7])
async def test_a_follower_sees_every_line_once_through_rotations(
    tmp_path: Path, burst: int, autojump_clock: trio.testing.MockClock
) -> None:
    written = log(tmp_path, file_bytes=300)
    total = 210
    alive = True

    async def write() -> None:
        nonlocal alive
        for start in range(0, total, burst):
            for number in range(start, start + burst):
                written.feed("o", b"%d\n" % number)
            await trio.sleep(0.1)
        alive = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        reader = LogReader(tmp_path, tail=None, follow=True, running=lambda: alive)
        assert [int(line.text) async for line in reader] == list(range(total))
    written.close()


@pytest.mark.parametrize("record", [b"", b"1", b"x o F text", b"1 z F text", b"1 o Q text", b"1 o"])
def test_a_record_cut_short_is_passed_over(record: bytes) -> None:
    assert parse(record) is None


STAMP = b"2026-11-27T06:32:19.646474391+00:00"


async def test_lines_that_conmon_cut_are_put_together(tmp_path: Path) -> None:
    records = [
        b"stdout P one ",
        b"stderr F bad",
        b"stdout P and ",
        b"stdout F two",
        b"stdout F ",
        b"stdout P no end",
    ]
    (tmp_path / "log").write_bytes(b"".join(STAMP + b" " + record + b"\n" for record in records))
    lines = await read(tmp_path)
    assert [(line.channel, line.text, line.partial) for line in lines] == [
        (Channel.ERR, "bad", False),
        (Channel.OUT, "one and two", False),
        (Channel.OUT, "", False),
        (Channel.OUT, "no end", True),
    ]
    assert {line.at for line in lines} == {1_795_761_139_646}
    assert [line.text for line in await read(tmp_path, tail=2)] == ["", "no end"]


async def test_what_conmon_cut_is_put_together_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "WORKLOAD_LOG_LINE_BYTES", 10)
    (tmp_path / "log").write_bytes(b"".join(STAMP + b" stdout P 123456\n" for _ in range(3)))
    assert [(line.text, line.partial) for line in await read(tmp_path)] == [("123456", True)] * 3


@pytest.mark.parametrize(
    "record", [b"", b"today stdout F x", b"2026-13-27T06:32:19Z stdout F x", STAMP + b" stdin F x", STAMP]
)
def test_what_is_no_record_of_conmons_is_passed_over(record: bytes) -> None:
    assert parse_conmon(record) is None


def docker_record(text: str, stream: str = "stdout") -> bytes:
    """As the `json-file` driver of docker 20.10 writes it."""
    return json.dumps({"log": text, "stream": stream, "time": "2026-11-27T06:32:19.646474391Z"}).encode() + b"\n"


async def test_what_docker_wrote_in_its_own_folder_is_read_there_through_rotations(tmp_path: Path) -> None:
    docker, here = tmp_path / "docker", tmp_path / "here"
    docker.mkdir()
    here.mkdir()
    point(here, docker / "abc-json.log")
    assert await read(here) == []
    (docker / "abc-json.log.1").write_bytes(docker_record("one\n") + docker_record("bad\n", "stderr"))
    (docker / "abc-json.log").write_bytes(
        docker_record("begun ") + docker_record("{ended}\n") + docker_record("x")
    )
    lines = await read(here)
    assert [(line.channel, line.text, line.partial) for line in lines] == [
        (Channel.OUT, "one", False),
        (Channel.ERR, "bad", False),
        (Channel.OUT, "begun {ended}", False),
        (Channel.OUT, "x", True),
    ]
    assert {line.at for line in lines} == {1_795_761_139_646}
    keep(here)
    for path in docker.iterdir():
        path.unlink()
    assert await read(here) == lines
    assert sorted(path.name for path in here.iterdir()) == ["log", "log.1"]
    begin_run(here)
    assert await read(here / "previous") == lines


async def test_a_log_that_went_with_its_container_is_no_run_before(tmp_path: Path) -> None:
    point(tmp_path, tmp_path / "gone")
    begin_run(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "record",
    [b"{", b"{}", b"[]", b'{"log":1,"stream":"stdout","time":""}', docker_record("x", "stdin").rstrip()],
)
def test_what_docker_did_not_write_is_passed_over(record: bytes) -> None:
    assert parse_docker(record) is None


async def test_a_follower_reads_what_is_written_down_only_after_the_end(tmp_path: Path) -> None:
    reader = LogReader(tmp_path, tail=None, follow=True, running=lambda: False)

    async def settled() -> None:
        await trio.lowlevel.checkpoint()
        (tmp_path / "log").write_bytes(docker_record("late\n"))

    reader.settled = settled
    assert [line.text async for line in reader] == ["late"]
