"""What a node knows of its peers over a restart, and what it makes of a broken file."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.discovery import FAR, address, book, learn, peer

from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.bans import Bans
from fondaco.node.network.peerstore import PeerStore
from fondaco.protocol import limits


@contextmanager
def store(folder: Path) -> Iterator[PeerStore]:
    opened = PeerStore.open(folder / "peers.db")
    try:
        yield opened
    finally:
        opened.close()


def again(folder: Path) -> AddressBook:
    made = book()
    with store(folder) as opened:
        opened.load(made)
    return made


def test_a_book_is_the_same_after_a_restart(tmp_path: Path) -> None:
    made = book([(1, "8.8.8.8"), (2, "9.9.9.9"), (3, "11.1.1.1")])
    made.succeeded(peer(1), address(1, "8.8.8.8"), 2_000)
    made.failed(peer(2), 3_000)
    made.learn_address(address(4, "12.1.1.1"), FAR, 0)
    with store(tmp_path) as opened:
        opened.save(made)
        opened.save(made)
        made.forget(peer(3))
        opened.save(made)
    back = again(tmp_path)
    assert (list(back.changed), list(back.gone)) == ([], [])
    for number in (1, 2, 4):
        before, after = made.get(peer(number)), back.get(peer(number))
        assert before is not None
        before.retry_ms = 0
        assert before == after
    assert len(back) == 3


@pytest.mark.parametrize("size", [0, 100, 5_000])
def test_a_torn_file_is_put_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    made = book((number, f"{20 + number}.1.1.1") for number in range(1, 100))
    with store(tmp_path) as opened:
        opened.save(made)
    path = tmp_path / "peers.db"
    torn = path.read_bytes()[:size] + b"garbage"
    path.write_bytes(torn)
    with caplog.at_level(logging.WARNING), store(tmp_path) as opened:
        assert opened.load(book()) == 0
        opened.save(book([(1, "8.8.8.8")]))
    assert [record.getMessage().count("begun anew") for record in caplog.records] == [1]
    assert (tmp_path / "peers.db.broken").read_bytes()[:100] == torn[:100]
    assert len(again(tmp_path)) == 1


def test_a_database_of_somebody_else_or_of_a_newer_program_is_put_aside(tmp_path: Path) -> None:
    for statement in ("PRAGMA user_version=9", "PRAGMA user_version=1"):
        with sqlite3.connect(tmp_path / "peers.db") as other:
            other.execute("CREATE TABLE peers (what TEXT)")
            other.execute(statement)
        other.close()
        assert len(again(tmp_path)) == 0
        (tmp_path / "peers.db").unlink()
        assert (tmp_path / "peers.db.broken").exists()


@pytest.mark.parametrize("addresses", ["[]", "x", "[1]", json.dumps([address(2, "8.8.8.8")]), '["/ip4/8.8.8.8"]'])
def test_a_row_that_makes_no_sense_is_passed_over(
    tmp_path: Path, addresses: str, caplog: pytest.LogCaptureFixture
) -> None:
    with store(tmp_path) as opened:
        opened.save(book([(1, "8.8.8.8"), (3, "9.9.9.9")]))
        with opened._db.conn:
            opened._db.execute("UPDATE peers SET addresses = ? WHERE peer = ?", (addresses, peer(1)))
    back = again(tmp_path)
    assert [one.peer for one in back] == [peer(3)]
    assert "cannot be read" in caplog.text
    with store(tmp_path) as opened:
        opened.save(back)
    caplog.clear()
    assert len(again(tmp_path)) == 1
    assert not caplog.records


def test_a_disk_that_refuses_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = book([(1, "8.8.8.8")])
    with store(tmp_path) as opened:
        opened._db.execute("PRAGMA query_only=1")
        opened.save(made)
        opened.save(made)
        assert caplog.text.count("cannot be written") == 1
        opened._db.execute("PRAGMA query_only=0")
        opened.save(made)
        opened._db.execute("PRAGMA query_only=1")
        learn(made, 2, "9.9.9.9")
        opened.save(made)
        assert caplog.text.count("cannot be written") == 2
    assert len(again(tmp_path)) == 1


def test_sequence_numbers_grow_though_the_clock_is_set_back(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        assert opened.next_seq(1_000) == 1_000
    with store(tmp_path) as opened:
        assert opened.next_seq(500) == 1_001
        assert opened.next_seq(5_000) == 5_000


def test_bans_survive_a_restart_for_as_long_as_they_were_meant_to(tmp_path: Path) -> None:
    with store(tmp_path) as opened:
        opened.save_ban(peer(1), 10_000, "nonsense")
        opened.save_ban("8.8.8.0/24", 20_000, "x" * 9_000)
        opened.save_ban(peer(2), 30_000, "lifted")
        opened.save_ban(peer(2), 0, "")
    bans = Bans()
    with store(tmp_path) as opened:
        opened.load_bans(bans, 100.0, 5_000)
    assert bans.why(peer(1), 104.9) == "nonsense"
    assert bans.why(peer(1), 105.0) is None
    assert bans.why("8.8.8.0/24", 114.9) == "x" * 200
    assert bans.why(peer(2), 100.0) is None


def test_no_more_bans_are_written_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BANS", 3)
    with store(tmp_path) as opened:
        for number in range(6):
            opened.save_ban(peer(number), 10_000 + number, "nonsense")
        opened.trim_bans(5_000)
        rows = opened._db.execute("SELECT subject FROM bans").fetchall()
        assert {subject for (subject,) in rows} == {peer(3), peer(4), peer(5)}


def test_a_host_tells_of_bans_and_of_their_end() -> None:
    told: list[tuple[str, int, str]] = []
    bans = Bans()
    bans.on_ban = lambda subject, life_ms, reason: told.append((subject, life_ms, reason))
    bans.ban(peer(1), 0.0, "nonsense", life_ms=7)
    bans.lift(peer(1))
    bans.lift(peer(1))
    assert told == [(peer(1), 7, "nonsense"), (peer(1), 0, "")]
