"""Who breaks the protocol is blamed, and what it signed against its word goes to the others and into a block."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.chains import stored
from tests.support.court import PATIENT, Court, Life, Wire, alone, living
from tests.support.network import until

from fondaco.node.network.peers import peer_id_of
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import SignedVote, Vote, VoteKind
from fondaco.protocol.errors import Malformed, PeerFault
from fondaco.protocol.evidence import decode_evidence, duplicate_vote
from fondaco.protocol.scalars import Hash, Height, Round, Signature


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path, PATIENT)


async def test_peers_that_break_the_protocol_are_blamed(court: Court) -> None:
    forged = replace(court.vote(court.others[0], VoteKind.PREVOTE, None), signature=Signature(bytes(64)))
    async with living(court.life()) as life:
        await court.tell(life, forged, sender=court.others[1])
        assert life.blamed == [(peer_id_of(court.others[1].public_key), "signature.bad")]
        with pytest.raises(Malformed):
            await life.agreement.on_frame(peer_id_of(court.us.public_key), b"garbage")


async def test_two_votes_of_one_validator_are_reported(court: Court, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    guilty = court.others[0]
    async with living(court.life()) as life:
        values = (Hash(b"a" * 32), Hash(b"b" * 32))
        await court.tell(life, *(court.vote(guilty, VoteKind.PREVOTE, value) for value in values))
        (raw,) = life.evidence.candidates()
        assert decode_evidence(raw) in court.wire.sent
        peer = peer_id_of(court.proposer.public_key)
        life.agreement.on_up(peer)
        assert court.wire.to[-1] == peer
    assert f"validator {guilty.public_key.hex()} broke its word at height 1" in caplog.text
    again = court.life()
    assert again.evidence.candidates() == [raw]
    again.stop()


async def test_evidence_that_a_peer_sends_is_taken_in_and_passed_on(court: Court) -> None:
    guilty, peer = court.others[0], peer_id_of(court.others[1].public_key)
    values = (Hash(b"a" * 32), Hash(b"b" * 32))
    evidence = duplicate_vote(*(court.vote(guilty, VoteKind.PREVOTE, value) for value in values))
    async with living(court.life()) as life:
        for _ in range(2):
            await life.agreement.on_frame(peer, codec.encode(evidence))
        assert life.evidence.candidates() == [codec.encode(evidence)]
        assert court.wire.sent.count(evidence) == 1
        made_up = replace(evidence, second=replace(evidence.second, signature=Signature(bytes(64))))
        with pytest.raises(PeerFault, match="signature"):
            await life.agreement.on_frame(peer, codec.encode(made_up))


async def test_evidence_begins_a_round_and_goes_into_the_block(tmp_path: Path) -> None:
    town = alone()
    (signer,) = town.signers()
    async with living(Life(town, tmp_path, Wire(), signer=signer)) as life:
        await until(lambda: life.chain.head.height == 1)
        votes = []
        for value in (Hash(b"a" * 32), Hash(b"b" * 32)):
            vote = Vote(kind=VoteKind.PREVOTE, height=Height(1), round=Round(9), value=value, valid_round=None)
            signature = signer.sign(town.chain, vote)
            votes.append(SignedVote(vote=vote, validator=signer.public_key, signature=signature))
        evidence = duplicate_vote(*votes)
        life.evidence.report(evidence)
        await until(lambda: life.chain.head.height == 2)  # the heartbeat would take another ten seconds
        assert stored(life.chain, 2)[0].evidence == (codec.encode(evidence),)
        assert len(life.evidence) == 0


async def test_evidence_that_cannot_be_kept_does_not_stop_agreement(
    court: Court, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "EVIDENCE_PENDING", 0)
    async with living(court.life()) as life:
        values = (Hash(b"a" * 32), Hash(b"b" * 32))
        await court.tell(life, *(court.vote(court.others[0], VoteKind.PREVOTE, value) for value in values))
        assert len(life.evidence) == 0
    assert "evidence.full" in caplog.text
