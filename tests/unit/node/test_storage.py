from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import children
from tests.support.sample_blocks import ZERO, sample_block, sample_certificate

from fondaco.node.storage import ChainStore, Head, StorageFailed
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Hash, Height


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChainStore]:
    opened = ChainStore.open(tmp_path / "chain.db")
    yield opened
    opened.close()


def chain(count: int, first: int = 1) -> list[Block]:
    blocks: list[Block] = []
    for height in range(first, first + count):
        previous = blocks[-1].header.hash() if blocks else ZERO
        blocks.append(sample_block(height, previous, (b"transaction %d" % height,)))
    return blocks


def fill(store: ChainStore, blocks: list[Block]) -> list[Block]:
    for block in blocks:
        records: dict[bytes, bytes | None] = {b"height": b"%d" % block.header.height}
        sets = {Height(block.header.height + 2): b"set %d" % (block.header.height + 2)}
        store.commit_block(block, sample_certificate(block), records, sets)
    return blocks


def test_an_empty_store_has_nothing(store: ChainStore) -> None:
    assert store.head() is None
    assert store.first_height() is None
    assert store.get(b"key") is None
    assert store.block(Height(1)) is None
    assert store.block_by_hash(ZERO) is None
    assert store.certificate(Height(1)) is None
    assert store.signed_header(Height(1)) is None
    assert store.validator_set(Height(1)) is None
    assert store.range(Height(1), Height(9), 1000) == []
    assert store.prune(Height(9)) == 0


def test_a_block_is_found_by_height_and_by_hash(store: ChainStore) -> None:
    blocks = fill(store, chain(3))
    for block in blocks:
        height, certificate = block.header.height, sample_certificate(block)
        assert store.block(height) == block
        assert store.block_by_hash(block.header.hash()) == block
        assert store.certificate(height) == certificate
        signed = store.signed_header(height)
        assert signed is not None
        assert (signed.header, signed.certificate) == (block.header, certificate)
    assert store.head() == Head(height=Height(3), hash=blocks[-1].header.hash())
    assert store.first_height() == 1
    assert store.validator_set(Height(5)) == b"set 5"


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = ChainStore.open(tmp_path / "chain.db")
    blocks = fill(store, chain(2))
    store.close()
    store = ChainStore.open(tmp_path / "chain.db")
    assert store.block(Height(2)) == blocks[1]
    assert store.get(b"height") == b"2"
    store.close()


def test_a_chain_may_start_at_any_height_but_has_no_gaps(store: ChainStore) -> None:
    fill(store, chain(2, first=100))
    assert store.first_height() == 100
    for wrong in (100, 101, 103):
        block = sample_block(wrong)
        with pytest.raises(AssertionError, match="in order"):
            store.commit_block(block, sample_certificate(block), {})
    with pytest.raises(AssertionError, match="its own certificate"):
        store.commit_block(sample_block(102), sample_certificate(sample_block(101)), {})


def test_a_range_stops_at_its_end_and_at_its_bytes_but_gives_at_least_one(store: ChainStore) -> None:
    blocks = fill(store, chain(10))
    found = store.range(Height(3), Height(6), limits.MIB)
    assert [one.height for one in found] == [3, 4, 5]
    assert [codec.decode(one.body, Block) for one in found] == blocks[2:5]
    assert codec.decode(found[0].certificate, CommitCertificate) == sample_certificate(blocks[2])
    size = len(found[0].body) + len(found[0].certificate)
    assert len(store.range(Height(1), Height(99), 2 * size)) == 2
    assert len(store.range(Height(1), Height(99), 1)) == 1


def test_a_range_has_a_largest_number_of_blocks(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, chain(4))
    monkeypatch.setattr(limits, "RANGE_BLOCKS", 3)
    assert len(store.range(Height(1), Height(99), limits.MIB)) == 3


def test_pruning_keeps_the_head(store: ChainStore) -> None:
    fill(store, chain(5))
    assert store.prune(Height(3)) == 2
    assert store.first_height() == 3
    assert store.prune(Height(99)) == 2
    head = store.head()
    assert head is not None
    assert (store.first_height(), head.height) == (5, 5)
    assert store.validator_set(Height(4)) is None
    assert store.validator_set(Height(6)) == b"set 6"


def test_a_scan_is_in_key_order_bounded_and_undisturbed_by_a_commit(store: ChainStore) -> None:
    store.commit({b"b": b"2", b"a": b"1", b"ab": b"1.5", b"c": b"3", b"": b"0", b"\xff": b"9"})
    assert [key for key, _ in store.scan(b"a", b"c", 10)] == [b"a", b"ab", b"b"]
    assert [key for key, _ in store.scan(b"", b"\xff\xff", 2)] == [b"", b"a"]
    running = store.scan(b"a", b"c", 10)
    assert next(running) == (b"a", b"1")
    store.commit({b"ab": None, b"b": b"changed"})
    assert list(running) == [(b"ab", b"1.5"), (b"b", b"2")]
    assert list(store.scan(b"a", b"c", 10)) == [(b"a", b"1"), (b"b", b"changed")]


KEYS = st.binary(max_size=3)


@settings(deadline=None)
@given(
    batches=st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=5)), max_size=6),
    bounds=st.tuples(KEYS, KEYS),
)
def test_records_behave_like_a_sorted_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[dict[bytes, bytes | None]],
    bounds: tuple[bytes, bytes],
) -> None:
    store = ChainStore.open(tmp_path_factory.mktemp("model") / "chain.db")
    model: dict[bytes, bytes | None] = {}
    for batch in batches:
        store.commit(batch)
        model.update(batch)
    kept = sorted((key, value) for key, value in model.items() if value is not None)
    assert list(store.scan(b"", b"\xff" * 4, 1000)) == kept
    assert list(store.scan(*bounds, 1000)) == [one for one in kept if bounds[0] <= one[0] < bounds[1]]
    assert all(store.get(key) == value for key, value in model.items())
    assert store.get_all([*model, b"none of these"]) == dict(kept)
    store.close()


def test_any_number_of_records_is_read_at_once(store: ChainStore) -> None:
    records = {b"%d" % number: b"%d" % -number for number in range(1_000)}
    store.commit(records)
    assert store.get_all([]) == {}
    assert store.get_all(list(records)) == records


def test_a_commit_that_fails_changes_nothing_and_is_fatal(store: ChainStore) -> None:
    fill(store, chain(1))
    block = sample_block(2)
    wrong: dict[bytes, bytes | None] = {b"height": b"2", b"later": object()}  # type: ignore[dict-item]
    with pytest.raises(StorageFailed) as caught:
        store.commit_block(block, sample_certificate(block), wrong)
    assert caught.value.code == "storage.failed"
    assert store.get(b"height") == b"1"
    head = store.head()
    assert head is not None
    assert head.height == 1


def test_every_use_after_closing_is_fatal(tmp_path: Path) -> None:
    store = ChainStore.open(tmp_path / "chain.db")
    store.close()
    for use in (
        lambda: store.get(b"key"),
        lambda: store.get_all([b"key"]),
        store.head,
        lambda: store.scan(b"", b"z", 1),
    ):
        with pytest.raises(StorageFailed):
            use()


def test_a_store_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    ChainStore.open(path).close()
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO _sqlite_migrations VALUES (NULL, 'chain', 'from_the_future', 'now')")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Refused, match="from_the_future") as caught:
        ChainStore.open(path)
    assert caught.value.code == "storage.newer"
    assert path.read_bytes() == before


def zeroed(data: bytes) -> bytes:
    return data[:4096] + bytes(len(data) - 4096)


@pytest.mark.parametrize("damage", [lambda data: b"not a database" * 100, zeroed, lambda data: data[:5000]])
def test_a_file_that_is_no_whole_database_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "chain.db"
    store = ChainStore.open(path)
    fill(store, chain(50))
    store.close()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Refused) as caught:
        ChainStore.open(path)
    assert caught.value.code == "storage.corrupt"
    assert "move the file away" in caught.value.hint


def test_a_folder_that_is_missing_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        ChainStore.open(tmp_path / "missing" / "chain.db")
    assert caught.value.code == "storage.unusable"


def test_a_full_disk_is_fatal_and_the_store_stays_at_a_whole_block(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from fondaco.node.storage import ChainStore, StorageFailed
from tests.support.sample_blocks import sample_block, sample_certificate
store = ChainStore.open(Path(sys.argv[1]))
size = Path(sys.argv[1] + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200_000, size + 200_000))
try:
    for height in range(1, 1000):
        block = sample_block(height, transactions=(bytes(1000),))
        store.commit_block(block, sample_certificate(block), {b"height": b"%d" % height})
except StorageFailed as error:
    print(error.code, height)
"""
    code, height = children.run(script, tmp_path / "chain.db").split()
    assert code == "storage.failed"
    store = ChainStore.open(tmp_path / "chain.db")
    assert store.get(b"height") == b"%d" % (int(height) - 1)
    store.close()


VALIDATOR = """
import sys
from pathlib import Path
from fondaco.node.storage import ChainStore
from tests.support.sample_blocks import ZERO, sample_block, sample_certificate
store = ChainStore.open(Path(sys.argv[1]))
head = store.head()
height, previous = (0, ZERO) if head is None else (head.height, head.hash)
for height in range(height + 1, height + 100_000):
    block = sample_block(height, previous, (bytes(2000),))
    previous = block.header.hash()
    records = {b"%d" % number: b"%d" % height for number in range(200)}
    records |= {b"new %d" % height: b"", b"new %d" % (height - 1): None}
    store.commit_block(block, sample_certificate(block), records, {height: b"set"})
    print(height)
"""


def test_kill_9_in_the_middle_of_commits_leaves_a_whole_block(tmp_path: Path) -> None:
    previous: Hash = ZERO
    checked = 0
    for lines in (1, 4, 9, 17, 30):
        printed = children.kill_after(VALIDATOR, tmp_path / "chain.db", lines=lines)
        store = ChainStore.open(tmp_path / "chain.db")
        head = store.head()
        assert head is not None
        assert head.height >= int(printed[-1]), "what was reported is kept"
        numbers = {store.get(b"%d" % number) for number in range(200)}
        assert numbers == {b"%d" % head.height}
        assert [key for key, _ in store.scan(b"new", b"nex", 10)] == [b"new %d" % head.height]
        assert store.validator_set(head.height) == b"set"
        for height in range(checked + 1, head.height + 1):
            block = store.block(Height(height))
            assert block is not None
            assert block.header.previous == previous
            previous = block.header.hash()
        checked = head.height
        store.close()


def test_what_is_read_as_unchanging_is_of_one_moment(store: ChainStore) -> None:
    blocks = chain(3)
    fill(store, blocks[:1])
    view = ChainStore.view(store.path)
    with view.unchanging():
        fill(store, blocks[1:])
        assert view.head() == Head(height=Height(1), hash=blocks[0].header.hash())
        assert view.get(b"height") == b"1"
    assert view.get(b"height") == b"3"
    view.close()


def test_batches_are_written_together_or_not_at_all_and_each_sees_those_before(store: ChainStore) -> None:
    def batches(*, ends: bool) -> Iterator[dict[bytes, bytes | None]]:
        yield {b"one": b"1"}
        assert store.get(b"one") == b"1"
        if not ends:
            raise Refused("genesis.state", "the rest is missing")
        yield {b"two": b"2"}

    with pytest.raises(Refused):
        store.commit_all(batches(ends=False))
    assert store.get(b"one") is None
    store.commit_all(batches(ends=True))
    assert (store.get(b"one"), store.get(b"two")) == (b"1", b"2")
