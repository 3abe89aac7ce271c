from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.agreement import CHAIN, FOUR, START, block, commit_certificate, value
from tests.support.counting import GENESIS

from fondaco.consensus.blocks import Place, check_bound, follows
from fondaco.consensus.certificates import SignatureCache
from fondaco.node.simulation import identities
from fondaco.protocol import limits
from fondaco.protocol.agreement import Block, CommitCertificate
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import ChainId, Height, Millis, PublicKey

HOLDS = SignatureCache(CHAIN, identities.verify).holds
GOOD = block(b"transaction")
BELOW = commit_certificate(GENESIS, 0, 1, 2, height=6)
PLACE = Place(
    chain=CHAIN,
    height=Height(1),
    validators=FOUR,
    previous=GENESIS,
    previous_time=Millis(START - 1),
    previous_certificate=None,
    previous_validators=None,
)


def test_a_block_is_bound_to_its_hash() -> None:
    check_bound(GOOD, GOOD.header.hash())


@pytest.mark.parametrize(
    ("tampered", "code"),
    [
        (replace(GOOD, transactions=(b"another",)), "block.data"),
        (replace(GOOD, previous_certificate=BELOW), "block.data"),
        (replace(GOOD, evidence=(b"made up",)), "block.evidence"),
        (replace(GOOD, header=replace(GOOD.header, time=Millis(START + 1))), "block.value"),
        (replace(GOOD, transactions=(b"x" * limits.BLOCK_BYTES, b"y")), "block.size"),
        (replace(GOOD, transactions=(b"",) * (limits.BLOCK_TRANSACTIONS + 1)), "block.size"),
    ],
)
def test_a_relay_cannot_swap_what_a_header_commits_to(tampered: Block, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        check_bound(tampered, GOOD.header.hash())
    assert caught.value.code == code


def test_a_block_that_fits_follows() -> None:
    assert follows(GOOD, PLACE, HOLDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"chain": ChainId("another")},
        {"height": Height(2)},
        {"time": Millis(START - 1)},
        {"previous": value("x")},
        {"validators": value("x")},
        {"proposer": PublicKey(bytes(32))},
    ],
)
def test_a_header_that_does_not_fit_does_not_follow(changes: dict[str, object]) -> None:
    header = replace(GOOD.header, **changes)  # type: ignore[arg-type]
    assert not follows(replace(GOOD, header=header), PLACE, HOLDS)


@pytest.mark.parametrize(
    ("certificate", "good"),
    [
        (BELOW, True),
        (commit_certificate(GENESIS, 1, 2, 3, height=6, round=1), True),
        (commit_certificate(GENESIS, 1, 2, height=6), False),
        (commit_certificate(GENESIS, 1, 2, 3, height=5), False),
        (commit_certificate(value("x"), 1, 2, 3, height=6), False),
        (None, False),
    ],
)
def test_the_certificate_must_show_the_block_below_to_be_final(
    certificate: CommitCertificate | None, good: bool
) -> None:
    place = replace(PLACE, height=Height(7), previous_certificate=BELOW, previous_validators=FOUR)
    header = replace(GOOD.header, height=Height(7))
    assert follows(replace(GOOD, header=header, previous_certificate=certificate), place, HOLDS) is good


def test_without_the_set_below_the_ledger_is_left_to_check_the_certificate() -> None:
    place = replace(PLACE, height=Height(7), previous_certificate=BELOW)
    header = replace(GOOD.header, height=Height(7))
    unknown = commit_certificate(GENESIS, 1, height=6)
    assert follows(replace(GOOD, header=header, previous_certificate=unknown), place, HOLDS)
    assert not follows(replace(GOOD, previous_certificate=BELOW), PLACE, HOLDS)
