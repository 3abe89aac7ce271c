from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support import children

from fondaco.node.agreement import journal as module
from fondaco.node.agreement.journal import FRAME, HEAD, Journal, JournalFailed, Recovered
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Height

HEIGHT = Height(7)
GROUPS = ((b"", b"a"), (b"four", b"x" * 40), (b"last", b"y" * 9, b"z"))
"""Entries, in the groups they were flushed in."""
ENTRIES = [entry for group in GROUPS for entry in group]


def write(directory: Path) -> bytes:
    """A segment of `GROUPS`; its bytes."""
    journal = Journal.open(directory)
    journal.begin(HEIGHT)
    for group in GROUPS:
        for entry in group:
            journal.append(entry)
        journal.flush()
    journal.close()
    return segment(directory).read_bytes()


def segment(directory: Path) -> Path:
    (path,) = directory.glob("*.journal")
    return path


def ends() -> list[int]:
    """Where each prefix of whole entries ends, starting with none."""
    found = [HEAD.size]
    for entry in ENTRIES:
        found.append(found[-1] + FRAME.size + len(entry))
    return found


def synced_before_last_group() -> int:
    return ends()[len(ENTRIES) - len(GROUPS[-1])]


def reopen(path: Path, data: bytes) -> Journal:
    path.write_bytes(data)
    return Journal.open(path.parent)


def test_what_was_flushed_is_there_after_reopening(tmp_path: Path) -> None:
    write(tmp_path)
    journal = Journal.open(tmp_path)
    assert journal.recovered == Recovered(height=HEIGHT, entries=len(ENTRIES), dropped_bytes=0)
    assert journal.height == HEIGHT
    assert list(journal.entries(HEIGHT)) == ENTRIES
    journal.close()


def test_a_new_journal_recovers_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "new")
    assert journal.recovered is None
    assert journal.height is None
    assert journal.heights() == []
    journal.flush()
    journal.close()


def test_a_cut_at_any_byte_recovers_the_whole_entries_before_it_and_goes_on(tmp_path: Path) -> None:
    data = write(tmp_path)
    path = segment(tmp_path)
    for cut in range(len(data) + 1):
        whole = [end for end in ends() if end <= cut]
        kept = whole[-1] if whole else 0
        journal = reopen(path, data[:cut])
        count = max(len(whole) - 1, 0)
        assert journal.recovered == Recovered(height=HEIGHT, entries=count, dropped_bytes=cut - kept), cut
        journal.append(b"after")
        journal.close()
        again = Journal.open(tmp_path)
        assert list(again.entries(HEIGHT)) == [*ENTRIES[:count], b"after"], cut
        again.close()


def test_a_byte_that_changed_after_it_was_synced_is_refused_and_a_torn_last_group_is_cut(tmp_path: Path) -> None:
    data = write(tmp_path)
    path = segment(tmp_path)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        if position < synced_before_last_group():
            with pytest.raises(Refused) as caught:
                reopen(path, changed)
            assert caught.value.code == "journal.corrupt", position
            assert path.read_bytes() == changed, "a refused segment is left as it is"
        else:
            journal = reopen(path, changed)
            count = sum(end <= position for end in ends()) - 1
            assert list(journal.entries(HEIGHT)) == ENTRIES[:count], position
            journal.close()


def test_a_hole_in_the_last_group_is_torn_even_if_a_later_frame_reached_the_disk(tmp_path: Path) -> None:
    data = write(tmp_path)
    start = synced_before_last_group()
    holed = data[:start] + bytes(FRAME.size + 4) + data[start + FRAME.size + 4 :]
    journal = reopen(segment(tmp_path), holed)
    assert list(journal.entries(HEIGHT)) == ENTRIES[: -len(GROUPS[-1])]
    assert journal.recovered is not None
    assert journal.recovered.dropped_bytes == len(data) - start
    journal.close()


def test_frames_inside_a_payload_are_not_taken_for_frames(tmp_path: Path) -> None:
    write(tmp_path / "other")
    foreign = segment(tmp_path / "other").read_bytes()[HEAD.size :]
    journal = Journal.open(tmp_path / "mine")
    journal.begin(HEIGHT)
    journal.append(foreign)
    journal.close()
    path = segment(tmp_path / "mine")
    torn = bytearray(path.read_bytes())
    torn[HEAD.size] ^= 1
    journal = reopen(path, bytes(torn))
    assert list(journal.entries(HEIGHT)) == []
    journal.close()


def test_a_segment_under_another_height_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    path = segment(tmp_path)
    path.rename(path.with_name(path.name.replace("7", "8")))
    with pytest.raises(Refused) as caught:
        Journal.open(tmp_path)
    assert caught.value.code == "journal.corrupt"


def test_corruption_in_an_older_segment_shows_when_it_is_read(tmp_path: Path) -> None:
    data = write(tmp_path)
    old = segment(tmp_path)
    journal = Journal.open(tmp_path)
    journal.begin(Height(8))
    old.write_bytes(data[: HEAD.size] + b"\0" + data[HEAD.size + 1 :])
    with pytest.raises(Refused) as caught:
        list(journal.entries(HEIGHT))
    assert caught.value.code == "journal.corrupt"
    old.write_bytes(b"")
    with pytest.raises(Refused):
        list(journal.entries(HEIGHT))
    with pytest.raises(Refused) as caught:
        list(journal.entries(Height(99)))
    assert caught.value.code == "journal.missing"
    journal.close()


def test_each_height_has_its_segment_and_recovery_reads_the_last(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    for height in (1, 2, 5):
        journal.begin(Height(height))
        journal.append(f"entry of {height}".encode())
    journal.close()
    journal = Journal.open(tmp_path)
    assert journal.heights() == [1, 2, 5]
    assert journal.recovered == Recovered(height=Height(5), entries=1, dropped_bytes=0)
    assert list(journal.entries(Height(2))) == [b"entry of 2"]
    assert journal.prune(Height(5)) == 2
    assert journal.prune(Height(9)) == 0, "the current segment stays"
    assert journal.heights() == [5]
    journal.close()


def test_many_entries_are_written_before_the_flush_but_synced_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JOURNAL_BUFFER_BYTES", 100)
    journal = Journal.open(tmp_path)
    journal.begin(HEIGHT)
    journal.append(bytes(90))
    assert segment(tmp_path).stat().st_size > HEAD.size
    journal.flush()
    journal.close()


def test_a_full_disk_stops_the_journal_for_good_and_what_was_synced_is_kept(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from fondaco.node.agreement.journal import Journal, JournalFailed
journal = Journal.open(Path(sys.argv[1]))
journal.begin(1)
journal.append(b"kept")
journal.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
for attempt in (lambda: (journal.append(bytes(1000)), journal.flush()), journal.flush,
                lambda: journal.append(b"more"), lambda: journal.begin(2)):
    try:
        attempt()
        print("went on")
    except JournalFailed as error:
        print(error.code)
journal.close()
"""
    assert children.run(script, tmp_path).split() == ["journal.failed"] * 4
    journal = Journal.open(tmp_path)
    assert list(journal.entries(Height(1))) == [b"kept"]
    assert journal.recovered is not None
    assert journal.recovered.dropped_bytes > 0
    journal.close()


def test_a_failed_sync_is_never_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path)
    journal.begin(HEIGHT)
    journal.append(b"lost")
    calls = []

    def broken(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    for _ in range(3):
        with pytest.raises(JournalFailed, match="Input/output error"):
            journal.flush()
    assert len(calls) == 1
    journal.close()


def test_a_disk_that_refuses_the_bytes_stops_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.open(tmp_path)
    journal.begin(HEIGHT)
    journal.append(b"lost")

    def full(descriptor: int, data: bytearray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_all", full)
    with pytest.raises(JournalFailed, match="No space left"):
        journal.close()


def test_a_segment_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOURNAL_SEGMENT_BYTES", 100)
    journal = Journal.open(tmp_path)
    journal.begin(HEIGHT)
    journal.append(bytes(100))
    with pytest.raises(JournalFailed, match="full"):
        journal.flush()
    journal.close()


def test_a_folder_that_cannot_be_used_stops_the_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalFailed):
        Journal.open(tmp_path / "file")
    journal = Journal.open(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    with pytest.raises(JournalFailed, match="start a segment"):
        journal.begin(HEIGHT)
    journal.close()


WRITER = """
import sys
from pathlib import Path
from fondaco.node.agreement.journal import Journal
journal = Journal.open(Path(sys.argv[1]))
if journal.height is None:
    journal.begin(1)
start = sum(1 for _ in journal.entries(1))
for number in range(start, start + 100_000):
    journal.append(number.to_bytes(4, "big") * (number % 50 + 1))
    if number % 3 == 0:
        journal.flush()
        print(number)
"""


def test_kill_9_of_the_writer_leaves_everything_it_flushed(tmp_path: Path) -> None:
    for lines in (1, 20, 77):
        printed = children.kill_after(WRITER, tmp_path, lines=lines)
        journal = Journal.open(tmp_path)
        numbers = [int.from_bytes(entry[:4], "big") for entry in journal.entries(Height(1))]
        assert numbers == list(range(len(numbers)))
        assert numbers[-1] >= int(printed[-1])
        journal.close()
