"""Evidence waiting for a block: checked, bounded, over restarts; and what becomes of forks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.chains import Town

from fondaco.node.agreement.evidence_pool import EvidencePool, attack_of, judge_by
from fondaco.node.chain import Chain
from fondaco.protocol import codec, limits
from fondaco.protocol.agreement import CommitCertificate, Header, SignedHeader, SignedVote, Vote, VoteKind
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.evidence import DuplicateVote, LightClientAttack, duplicate_vote, evidence_hash
from fondaco.protocol.light import Fork, LightBlock
from fondaco.protocol.scalars import Hash, Height, Priority, Round
from fondaco.protocol.signing import Signer

A, B, C = (Hash(letter * 32) for letter in (b"a", b"b", b"c"))


@dataclass
class Scene:
    town: Town
    chain: Chain
    folder: Path
    spread: list[bytes] = field(default_factory=list)

    def pool(self) -> EvidencePool:
        pool = EvidencePool(self.folder, judge_by(self.chain))
        pool.spread = self.spread.append
        return pool

    def vote(self, signer: Signer, value: Hash, height: int = 1) -> SignedVote:
        vote = Vote(kind=VoteKind.PREVOTE, height=Height(height), round=Round(0), value=value, valid_round=None)
        return SignedVote(vote=vote, validator=signer.public_key, signature=signer.sign(self.chain.id, vote))

    def twice(self, number: int = 0, height: int = 1, values: tuple[Hash, Hash] = (A, B)) -> DuplicateVote:
        signer = self.town.signers()[number]
        return duplicate_vote(*(self.vote(signer, value, height) for value in values))

    def certified(self, header: Header) -> SignedHeader:
        certificate = CommitCertificate(height=header.height, round=Round(0), value=header.hash(), signatures=())
        vote, members = certificate.vote(), self.chain.ledger.validators.members
        signed = tuple(self.town.keys[member.public_key].sign(self.chain.id, vote) for member in members)
        return SignedHeader(header=header, certificate=replace(certificate, signatures=signed))

    def light_block(self, **changes: Hash) -> LightBlock:
        ours = self.chain.store.signed_header(Height(1))
        assert ours is not None
        members = self.chain.ledger.validators.members
        signed = self.certified(replace(ours.header, **changes))  # type: ignore[arg-type]
        return LightBlock(signed=signed, validators=members, next_validators=members)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    town = Town("alice", validators=4)
    chain = town.open(tmp_path / "chain.db")
    town.grow(chain)
    yield Scene(town, chain, tmp_path / "evidence")
    chain.close()


def refused(pool: EvidencePool, evidence: DuplicateVote | LightClientAttack) -> str:
    with pytest.raises(Refused) as caught:
        pool.report(evidence)
    return caught.value.code


def test_what_is_reported_waits_is_passed_on_and_survives_a_restart(scene: Scene) -> None:
    pool, evidence = scene.pool(), scene.twice()
    bell = pool.news.next
    raw = codec.encode(evidence)
    assert pool.report(evidence) == pool.report(evidence) == evidence_hash(raw)
    assert (len(pool), pool.candidates(), scene.spread) == (1, [raw], [raw])
    assert bell.is_set()
    assert scene.pool().candidates() == [raw]


def test_what_is_in_a_block_goes_and_does_not_come_back(scene: Scene) -> None:
    pool, raw = scene.pool(), codec.encode(scene.twice())
    assert pool.add_from_peer(raw)
    pool.after_commit([raw])
    assert len(pool) == 0
    assert not pool.add_from_peer(raw)
    assert pool.report(scene.twice()) == evidence_hash(raw)
    assert scene.pool().candidates() == []


def test_what_still_waits_after_a_block_is_said_again(scene: Scene) -> None:
    pool, raw = scene.pool(), codec.encode(scene.twice())
    pool.add_from_peer(raw)
    pool.after_commit([])
    assert scene.spread == [raw, raw]


def test_a_peer_that_makes_evidence_up_is_at_fault_and_one_that_is_ahead_is_not(scene: Scene) -> None:
    pool = scene.pool()
    with pytest.raises(Malformed):
        pool.add_from_peer(b"evidence")
    with pytest.raises(PeerFault, match=r"evidence\.votes"):
        pool.add_from_peer(codec.encode(scene.twice(values=(A, A))))
    assert not pool.add_from_peer(codec.encode(scene.twice(height=9)))
    assert scene.spread == []


def test_evidence_about_a_height_to_come_waits_for_it(scene: Scene) -> None:
    pool, evidence = scene.pool(), scene.twice(height=3)
    pool.report(evidence)
    assert len(pool) == 0
    pool.after_commit([])
    assert len(pool) == 0
    scene.town.grow(scene.chain)
    pool.after_commit([])
    assert pool.candidates() == [codec.encode(evidence)]


def test_what_the_ledger_takes_no_longer_goes(scene: Scene) -> None:
    verdicts: list[str] = []

    def judge(raw: bytes) -> None:
        if verdicts:
            raise Refused(verdicts[0], "no")

    pool = EvidencePool(scene.folder, judge)
    pool.report(scene.twice())
    verdicts.append("evidence.expired")
    pool.after_commit([])
    assert len(pool) == 0
    assert list(scene.folder.iterdir()) == []
    assert refused(pool, scene.twice(1)) == "evidence.expired"


def test_there_is_room_for_so_much_and_no_more(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVIDENCE_PENDING", 2)
    pool = scene.pool()
    for number in range(2):
        pool.report(scene.twice(number))
    assert refused(pool, scene.twice(2)) == "evidence.full"
    assert not pool.add_from_peer(codec.encode(scene.twice(3)))
    for number in range(3):
        pool.after_commit([codec.encode(scene.twice(number))])
    assert len(pool._done) == 2


def test_files_that_are_no_evidence_are_passed_over(scene: Scene) -> None:
    scene.folder.mkdir()
    (scene.folder / "notes.evidence").write_bytes(b"?")
    (scene.folder / f"{evidence_hash(b'?').hex()}.evidence").write_bytes(b"?")
    assert len(scene.pool()) == 0


# Forks


def test_a_fork_becomes_evidence_against_the_side_that_is_not_ours(scene: Scene) -> None:
    fork = Fork(common_height=0, first=scene.light_block(), second=scene.light_block(state_root=A))
    ours = scene.chain.store.signed_header(Height(1))
    attack = attack_of(fork, ours)
    assert attack.conflicting == fork.second.signed
    assert attack_of(replace(fork, first=fork.second, second=fork.first), ours) == attack


def test_one_form_of_an_attack_is_enough(scene: Scene) -> None:
    invented = scene.town.open(scene.folder.parent / "other.db").ledger.validators
    attack = LightClientAttack(
        conflicting=scene.light_block(state_root=A).signed,
        validators=invented.members,
        ours=scene.light_block().signed,
        common_height=Height(0),
    )
    pool = EvidencePool(scene.folder, lambda _raw: None)
    pool.report(scene.twice())
    pool.report(attack)
    other = replace(
        attack,
        common_height=Height(0),
        validators=tuple(replace(member, priority=Priority(member.priority + 1)) for member in invented.members),
    )
    assert refused(pool, other) == "evidence.known"


def test_forks_that_show_nothing_are_refused(scene: Scene) -> None:
    ours = scene.chain.store.signed_header(Height(1))
    same = Fork(common_height=0, first=scene.light_block(), second=scene.light_block())
    with pytest.raises(Refused, match=r"evidence\.headers"):
        attack_of(same, ours)
    with pytest.raises(Refused, match=r"evidence\.height"):
        attack_of(same, None)
