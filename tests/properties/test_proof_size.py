"""How long a proof of a record can be: for whoever asks a node, and whoever is handed a file."""

from __future__ import annotations

import math

import pytest
from tests.support.ledger import entries
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus import merkle
from fondaco.consensus.ledger.state import RECORD
from fondaco.protocol import codec
from fondaco.protocol.records import key_account
from fondaco.protocol.scalars import Hash, PublicKey
from fondaco.protocol.signing import sha256

MOST_BYTES = 2_000
HASH_BYTES = 34
"""A hash and its head."""
AROUND_BYTES = 8
"""Tags and lengths, of the proof and of its list."""
MILLION = 10**6


def bytes_of(depth: int) -> int:
    """Of a proof that ends at a leaf at this depth."""
    return AROUND_BYTES + HASH_BYTES * (depth + 2)


def likely_deepest(records: int) -> int:
    """The depth which, of so many records, a pair reaches by chance less than once in ten thousand states.

    A leaf lies below depth d only if another path agrees with its own in d bits: of n^2/2 pairs each does so with
    one chance in 2^d.
    """
    return math.ceil(2 * math.log2(records) - 1 + math.log2(10_000)) + 1


def test_of_a_million_records_no_proof_is_longer_than_two_kilobytes() -> None:
    assert bytes_of(likely_deepest(MILLION)) <= MOST_BYTES
    deepest = (MOST_BYTES - AROUND_BYTES) // HASH_BYTES - 2
    # Whoever wants a longer one must find a key that agrees with another in so many bits of SHA-256.
    assert deepest > 55


@pytest.mark.parametrize("depth", [0, 1, 15, 16, 60])
def test_the_size_is_that_of_the_formula(depth: int) -> None:
    leaf = (Hash(bytes(32)), Hash(bytes(32)))
    proof = merkle.Proof(siblings=(Hash(bytes(32)),) * depth, leaf=leaf)
    assert bytes_of(depth) - 4 <= len(codec.encode(proof)) <= bytes_of(depth)


KINDS = {b"account", b"provider", b"deployment", b"lease", b"due", b"used-order", b"used-ids", b"grant", b"totals"}


def test_every_kind_of_record_is_proven_and_its_absence_too() -> None:
    fuzz, kinds = Fuzz(12), set[bytes]()
    for _ in range(200):
        fuzz.block(20)
        stored = entries(fuzz.world.store)
        records = {key[len(RECORD) :]: raw for key, raw in stored.items() if key.startswith(RECORD)}
        kinds = {key.split(b"/")[0] for key in records}
        if kinds >= KINDS:
            break
    assert kinds >= KINDS
    root = fuzz.world.blocks[-1].block.header.state_root
    missing = {kind + b"/" + sha256(b"%d" % number) for kind in kinds for number in range(20)}
    missing |= {key_account(PublicKey(sha256(b"%d" % number))) for number in range(20)}
    deepest = 0
    for key in (*records, *missing):
        value, proof = fuzz.world.ledger.prove(key)
        assert value == records.get(key)
        assert merkle.holds(root, key, value, proof)
        assert len(codec.encode(proof)) <= bytes_of(len(proof.siblings)) <= MOST_BYTES
        deepest = max(deepest, len(proof.siblings))
    assert deepest <= likely_deepest(len(records))
