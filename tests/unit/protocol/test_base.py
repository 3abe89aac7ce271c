"""Errors, scalars, limits and the agreement messages: small modules, and what the others rely on in them."""

from __future__ import annotations

import pytest
from tests.support.sample_blocks import CHAIN, sample_block, sample_certificate

from fondaco.protocol import codec, limits, scalars
from fondaco.protocol.agreement import CommitCertificate, Proposal, SignedProposal, Vote, VoteKind
from fondaco.protocol.errors import FondacoError, Malformed, PeerFault, Refused, Unreachable
from fondaco.protocol.scalars import BOUNDS, INT_MAX, Hash, Height, PublicKey, Round, Signature
from fondaco.protocol.signing import message_id


def test_an_error_reads_as_one_line_with_code_and_hint() -> None:
    assert str(Refused("escrow.dry", "no money left")) == "escrow.dry: no money left"
    assert str(Refused("escrow.dry", "no money left", hint="top up")) == "escrow.dry: no money left (top up)"


@pytest.mark.parametrize(
    ("kind", "parent", "exit_code"),
    [
        (PeerFault, FondacoError, 1),
        (Malformed, PeerFault, 1),
        (Refused, FondacoError, 1),
        (Unreachable, FondacoError, 3),
    ],
)
def test_every_kind_of_error_has_its_place_and_exit_code(
    kind: type[FondacoError], parent: type[FondacoError], exit_code: int
) -> None:
    error = kind("some.code", "what and where")
    assert isinstance(error, parent)
    assert (error.code, error.message, error.hint, error.exit_code) == (
        "some.code",
        "what and where",
        "",
        exit_code,
    )


def test_every_bound_is_a_range_that_msgpack_can_carry() -> None:
    for kind, (low, high) in BOUNDS.items():
        assert low <= high, kind
        assert low >= -(2**63), kind
        assert high <= INT_MAX, kind
        assert kind in vars(scalars).values()


def test_what_is_carried_fits_into_what_carries_it() -> None:
    assert limits.BLOCK_BYTES < limits.MESSAGE_BYTES <= limits.FRAME_BYTES <= limits.SEND_QUEUE_BYTES
    assert limits.TX_BYTES < limits.BLOCK_BYTES <= limits.BLOB_BYTES < limits.MESSAGE_BYTES
    assert limits.GOSSIP_ITEM_BYTES <= limits.GOSSIP_BATCH_BYTES <= limits.FRAME_BYTES
    assert limits.BLOCK_TRANSACTIONS <= limits.LIST_ITEMS
    assert limits.VALIDATORS * limits.VOTES_PER_VALIDATOR <= limits.LIST_ITEMS
    assert limits.LIST_ITEMS < limits.MESSAGE_ITEMS
    assert limits.MESSAGE_BYTES <= limits.JOURNAL_ENTRY_BYTES <= limits.JOURNAL_SEGMENT_BYTES


def test_the_largest_proposal_fits_into_a_message() -> None:
    size = limits.BLOCK_BYTES // limits.BLOCK_TRANSACTIONS - 3
    block = sample_block(2, transactions=(bytes(size),) * limits.BLOCK_TRANSACTIONS)
    proposal = SignedProposal(
        proposal=Proposal(height=Height(2), round=Round(0), value=block.header.hash(), valid_round=None),
        block=block,
        proposer=PublicKey(bytes(32)),
        signature=Signature(bytes(64)),
    )
    assert codec.decode(codec.encode(proposal), SignedProposal) == proposal


def test_all_precommits_for_a_value_sign_the_same_bytes() -> None:
    certificate = CommitCertificate(height=Height(4), round=Round(2), value=Hash(b"v" * 32), signatures=())
    vote = Vote(kind=VoteKind.PRECOMMIT, height=Height(4), round=Round(2), value=Hash(b"v" * 32), valid_round=None)
    assert certificate.vote() == vote
    assert message_id(CHAIN, certificate.vote()) == message_id(CHAIN, vote)


def test_a_header_hash_covers_every_field() -> None:
    block = sample_block(3)
    assert block.header.hash() == sample_block(3).header.hash()
    assert block.header.hash() != sample_block(4).header.hash()
    assert sample_certificate(block).value == block.header.hash()


def test_a_header_hash_is_pinned() -> None:
    """A change here is a change of the protocol."""
    pinned = "5d6ffbcbf98b82474926fab09fe55360f11d9e28ee98bf77a9777a9e52ee7f7d"
    assert sample_block(3).header.hash().hex() == pinned
