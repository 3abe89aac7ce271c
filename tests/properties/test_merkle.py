"""The tree's root is a function of the records alone, and its proofs prove just what is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.old_tree import nodes_of

from fondaco.consensus import merkle
from fondaco.protocol.scalars import Hash
from fondaco.protocol.signing import sha256

keys = st.binary(max_size=2)
batches = st.lists(st.dictionaries(keys, st.none() | st.binary(max_size=3), max_size=8), max_size=8)


class Tree:
    def __init__(self) -> None:
        self.pages: dict[bytes, bytes] = {}
        self.records: dict[bytes, bytes] = {}

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        for target, writes in (
            (self.pages, merkle.update(self.pages.get, changes)),
            (self.records, changes),
        ):
            for key, value in writes.items():
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value

    @property
    def root(self) -> Hash:
        return merkle.root_of(self.pages.get)


@given(batches=batches)
def test_any_history_ends_in_the_root_and_pages_of_its_final_records(
    batches: list[dict[bytes, bytes | None]],
) -> None:
    grown, fresh = Tree(), Tree()
    for changes in batches:
        grown.apply(changes)
    fresh.apply(dict(grown.records))
    assert grown.root == fresh.root
    assert grown.pages == fresh.pages


@given(batches=batches, key=keys, claim=st.none() | st.binary(max_size=3))
def test_a_proof_holds_for_what_is_there_and_for_nothing_else(
    batches: list[dict[bytes, bytes | None]], key: bytes, claim: bytes | None
) -> None:
    tree = Tree()
    for changes in batches:
        tree.apply(changes)
    proof = merkle.prove(tree.pages.get, key)
    assert merkle.holds(tree.root, key, tree.records.get(key), proof)
    assert merkle.holds(tree.root, key, claim, proof) == (claim == tree.records.get(key))


@given(records=st.dictionaries(keys, st.binary(max_size=3), min_size=1, max_size=20), key=keys, other=keys)
def test_a_proof_for_one_key_says_nothing_of_another(
    records: dict[bytes, bytes], key: bytes, other: bytes
) -> None:
    tree = Tree()
    tree.apply(dict(records))
    proof = merkle.prove(tree.pages.get, key)
    truth = tree.records.get(other)
    for claim in (None, b"", b"x", *records.values()):
        if claim != truth:
            assert not merkle.holds(tree.root, other, claim, proof)


@given(records=st.dictionaries(keys, st.binary(max_size=3), max_size=40))
def test_pages_give_the_root_that_the_definition_gives_and_its_proofs(records: dict[bytes, bytes]) -> None:
    """Node by node, as the tree was stored before it had pages."""
    tree, nodes = Tree(), nodes_of(records)
    tree.apply(dict(records))
    top = nodes.get(bytes(2))
    assert tree.root == (merkle.EMPTY if top is None else sha256(top)) == merkle.root_over(records.items())
    for key in (*records, b"no such key"):
        path, hashes = sha256(key), {sha256(node) for node in nodes.values()} | {merkle.EMPTY}
        proof = merkle.prove(tree.pages.get, key)
        assert set(proof.siblings) <= hashes
        assert (proof.leaf is not None and proof.leaf[0] == path) == (key in records)


@given(batches=batches)
def test_what_a_walk_reads_is_what_it_said_it_would_read(batches: list[dict[bytes, bytes | None]]) -> None:
    tree = Tree()
    for changes in batches:
        announced, read = list[bytes](), list[bytes]()

        def look(place: bytes, read: list[bytes] = read) -> bytes | None:
            read.append(place)
            return tree.pages.get(place)

        merkle.update(look, changes, announced.extend)
        assert read == announced
        tree.apply(changes)


def test_pages_are_of_four_levels_and_below_two_records_there_is_none() -> None:
    tree = Tree()
    tree.apply({b"%d" % number: b"" for number in range(300)})
    paths = [sha256(b"%d" % number).hex() for number in range(300)]
    shared = {prefix for path in paths for prefix in (path[:digits] for digits in range(64))}
    expected = {prefix for prefix in shared if sum(path.startswith(prefix) for path in paths) > 1}
    assert set(tree.pages) == {merkle.page_key(prefix) for prefix in expected}


def test_an_overlong_proof_is_refused() -> None:
    proof = merkle.Proof(siblings=(merkle.EMPTY,) * 257, leaf=None)
    assert not merkle.holds(merkle.EMPTY, b"key", None, proof)


def test_the_empty_tree_has_the_empty_root() -> None:
    assert Tree().root == merkle.EMPTY
    assert merkle.holds(merkle.EMPTY, b"key", None, merkle.prove(Tree().pages.get, b"key"))


def test_removing_everything_leaves_the_empty_tree() -> None:
    tree = Tree()
    tree.apply({bytes((key,)): b"value" for key in range(40)})
    tree.apply({bytes((key,)): None for key in range(40)})
    assert tree.root == merkle.EMPTY
    assert tree.pages == {}
