"""Proof files over chains that exist only in memory: real codec, real signatures, a state of a few records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fondaco.consensus import merkle
from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.light import FondacoBlock, TrustedState, trust_genesis
from fondaco.consensus.proof import HeaderId, step_of
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec
from fondaco.protocol.agreement import CommitCertificate, Header, SignedHeader
from fondaco.protocol.proof import RecordProof
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis, Power, Round
from fondaco.protocol.signing import Signer, sha256, verify

CHAIN = ChainId("proofs-0123456789abcdef")
GENESIS_TIME = 1_700_000_000_000
SECOND = 1_000
RECORDS = {f"lease/{number}".encode(): f"record {number}".encode() for number in range(9)}
SIGNERS = {
    signer.public_key: signer for signer in (Signer(sha256(f"proof signer {n}".encode())) for n in range(40))
}
KEYS = sorted(SIGNERS)


def validators(first: int, count: int = 4) -> ValidatorSet:
    return ValidatorSet.of((key, Power(10)) for key in KEYS[first : first + count])


@dataclass
class Line:
    """A chain whose set loses its first validator and gains another every `every` heights; 0: never."""

    every: int = 0
    state: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes: dict[bytes, bytes] = {}
        for path, node in merkle.update(nodes.get, RECORDS).items():
            assert node is not None
            nodes[path] = node
        self.state = nodes

    def set_at(self, height: int) -> ValidatorSet:
        return validators(height // self.every if self.every else 0)

    def header(self, height: int) -> Header:
        digest = sha256(b"not looked at")
        return Header(
            version=1,
            chain=CHAIN,
            height=Height(height),
            time=Millis(GENESIS_TIME + SECOND * height),
            previous=digest if height % 10 == 0 else self.header(height - 1).hash(),
            validators=self.set_at(height).hash,
            next_validators=self.set_at(height + 1).hash,
            params=digest,
            data_root=digest,
            evidence_root=digest,
            events_root=digest,
            state_root=merkle.root_of(self.state.get),
            proposer=self.set_at(height).members[0].public_key,
        )

    def signed(self, height: int, *, signers: int = 4, header: Header | None = None) -> SignedHeader:
        header = header or self.header(height)
        bare = CommitCertificate(height=header.height, round=Round(0), value=header.hash(), signatures=())
        members = self.set_at(height).members
        places = [SIGNERS[one.public_key].sign(CHAIN, bare.vote()) for one in members[:signers]]
        rest = [None] * (len(members) - signers)
        return SignedHeader(header=header, certificate=replace(bare, signatures=(*places, *rest)))

    def block(self, height: int, *, header: Header | None = None) -> FondacoBlock:
        return FondacoBlock(
            signed=self.signed(height, header=header),
            validators=self.set_at(height),
            next_validators=self.set_at(height + 1),
            holds=SignatureCache(CHAIN, verify).holds,
        )

    def proof(self, key: bytes, *heights: int, signers: int = 4) -> RecordProof:
        return RecordProof(
            path=tuple(
                step_of(self.signed(height, signers=signers), self.set_at(height), self.set_at(height + 1))
                for height in heights
            ),
            key=key,
            value=RECORDS.get(key),
            proof=codec.encode(merkle.prove(self.state.get, key)),
        )

    def genesis(self) -> TrustedState[ValidatorSet]:
        return trust_genesis(
            chain=CHAIN,
            height=Height(0),
            time=Millis(GENESIS_TIME),
            hash=sha256(b"genesis"),
            validators=self.set_at(1),
        )

    def id(self, height: int) -> HeaderId:
        return HeaderId(height=Height(height), hash=Hash(self.header(height).hash()))


def at(height: int) -> Millis:
    """A moment a little after this height's block."""
    return Millis(GENESIS_TIME + SECOND * height + 100)
