"""The tree's root is a function of the records alone, and its proofs prove just what is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fondaco.consensus import merkle
from fondaco.protocol.scalars import Hash

keys = st.binary(max_size=2)
batches = st.lists(st.dictionaries(keys, st.none() | st.binary(max_size=3), max_size=8), max_size=8)


class Tree:
    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.records: dict[bytes, bytes] = {}

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        for target, writes in (
            (self.nodes, merkle.update(self.nodes.get, changes)),
            (self.records, changes),
        ):
            for key, value in writes.items():
                if value is None:
                    target.pop(key, None)
                else:
                    target[key] = value

    @property
    def root(self) -> Hash:
        return merkle.root_of(self.nodes.get)


@given(batches=batches)
def test_any_history_ends_in_the_root_and_nodes_of_its_final_records(
    batches: list[dict[bytes, bytes | None]],
) -> None:
    grown, fresh = Tree(), Tree()
    for changes in batches:
        grown.apply(changes)
    fresh.apply(dict(grown.records))
    assert grown.root == fresh.root
    assert grown.nodes == fresh.nodes


@given(batches=batches, key=keys, claim=st.none() | st.binary(max_size=3))
def test_a_proof_holds_for_what_is_there_and_for_nothing_else(
    batches: list[dict[bytes, bytes | None]], key: bytes, claim: bytes | None
) -> None:
    tree = Tree()
    for changes in batches:
        tree.apply(changes)
    proof = merkle.prove(tree.nodes.get, key)
    assert merkle.holds(tree.root, key, tree.records.get(key), proof)
    assert merkle.holds(tree.root, key, claim, proof) == (claim == tree.records.get(key))


@given(records=st.dictionaries(keys, st.binary(max_size=3), min_size=1, max_size=20), key=keys, other=keys)
def test_a_proof_for_one_key_says_nothing_of_another(
    records: dict[bytes, bytes], key: bytes, other: bytes
) -> None:
    tree = Tree()
    tree.apply(dict(records))
    proof = merkle.prove(tree.nodes.get, key)
    truth = tree.records.get(other)
    for claim in (None, b"", b"x", *records.values()):
        if claim != truth:
            assert not merkle.holds(tree.root, other, claim, proof)


def test_an_overlong_proof_is_refused() -> None:
    proof = merkle.Proof(siblings=(merkle.EMPTY,) * 257, leaf=None)
    assert not merkle.holds(merkle.EMPTY, b"key", None, proof)


def test_the_empty_tree_has_the_empty_root() -> None:
    assert Tree().root == merkle.EMPTY
    assert merkle.holds(merkle.EMPTY, b"key", None, merkle.prove(Tree().nodes.get, b"key"))


def test_removing_everything_leaves_the_empty_tree() -> None:
    tree = Tree()
    tree.apply({bytes((key,)): b"value" for key in range(40)})
    tree.apply({bytes((key,)): None for key in range(40)})
    assert tree.root == merkle.EMPTY
    assert tree.nodes == {}
