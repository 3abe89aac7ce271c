"""A tenant's check of one lease, far from the last header it trusts: proof file to verdict, one core."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import nacl.bindings

from fondaco.consensus import merkle
from fondaco.consensus.proof import HeaderId, step_of, verify_proof
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.bench import Figure, Result
from fondaco.node.samples import plain_unit
from fondaco.protocol import codec
from fondaco.protocol.agreement import CommitCertificate, Header, SignedHeader
from fondaco.protocol.limits import GIB
from fondaco.protocol.proof import RecordProof
from fondaco.protocol.records import Lease, LeaseState, key_lease
from fondaco.protocol.scalars import (
    ChainId,
    DeploymentId,
    GroupIndex,
    Hash,
    Height,
    LeaseId,
    MicroCredits,
    Millis,
    Power,
    Round,
)
from fondaco.protocol.signing import Signer, sha256

VALIDATORS = 4
GAP = 10_000
LEASES = 10_000
"""Records in the state: what makes the Merkle proof as long as it is."""
RUNS = 101
CHAIN = ChainId("bench-0000000000000000")
START = 1_700_000_000_000


def measure() -> Result:
    """Median time from the file's bytes to the verdict, nothing remembered between runs; the bytes of the file."""
    signers = [Signer(sha256(f"bench validator {number}".encode())) for number in range(VALIDATORS)]
    leases = {key_lease(lease.id): codec.encode(lease) for lease in map(_lease, range(LEASES))}
    nodes = {path: node for path, node in merkle.update(_nothing, leases).items() if node is not None}
    validators = ValidatorSet.of((signer.public_key, Power(10)) for signer in signers)
    headers = _headers(validators, merkle.root_of(nodes.get))
    key = key_lease(_lease(LEASES // 2).id)
    proof = RecordProof(
        path=tuple(
            step_of(_signed(header, validators, signers), validators, validators)
            for header in (headers[0], headers[-1])
        ),
        key=key,
        value=leases[key],
        proof=codec.encode(merkle.prove(nodes.get, key)),
    )
    raw = codec.encode(proof)
    anchor = HeaderId(height=headers[0].height, hash=headers[0].hash())
    now = Millis(headers[-1].time + 1_000)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        verify_proof(raw, anchor, now=now)
        times.append((time.perf_counter() - began) * 1_000)
    return Result(
        bench="light",
        parameters={"validators": VALIDATORS, "gap_blocks": GAP, "records": LEASES, "runs": RUNS},
        figures={
            "verify_ms": Figure(value=round(statistics.median(times), 3), unit="ms"),
            "proof_bytes": Figure(value=len(raw), unit="B"),
        },
        limit={"signatures_ms": Figure(value=_signatures_ms(2 * VALIDATORS), unit="ms")},
    )


def _headers(validators: ValidatorSet, state_root: Hash) -> list[Header]:
    """A whole chain of them, though only its ends are needed: each names the one before."""
    digest = sha256(b"bench")
    headers: list[Header] = []
    previous = digest
    for height in range(1, GAP + 2):
        headers.append(
            Header(
                version=1,
                chain=CHAIN,
                height=Height(height),
                time=Millis(START + 1_000 * height),
                previous=previous,
                validators=validators.hash,
                next_validators=validators.hash,
                params=digest,
                data_root=digest,
                evidence_root=digest,
                events_root=digest,
                state_root=state_root,
                proposer=validators.members[height % VALIDATORS].public_key,
            )
        )
        previous = headers[-1].hash()
    return headers


def _signed(header: Header, validators: ValidatorSet, signers: list[Signer]) -> SignedHeader:
    certificate = CommitCertificate(height=header.height, round=Round(0), value=header.hash(), signatures=())
    by_key = {signer.public_key: signer.sign(CHAIN, certificate.vote()) for signer in signers}
    signatures = tuple(by_key[member.public_key] for member in validators.members)
    return SignedHeader(header=header, certificate=replace(certificate, signatures=signatures))


def _lease(number: int) -> Lease:
    name = sha256(f"lease {number}".encode())
    return Lease(
        id=LeaseId(name),
        deployment=DeploymentId(name),
        group=GroupIndex(0),
        tenant=Signer(bytes(32)).public_key,
        provider=Signer(bytes(32)).public_key,
        price_per_hour=MicroCredits(10_000),
        units=(plain_unit(cpu_milli=1_000, memory_bytes=GIB),),
        commitment=name,
        version=1,
        reclamation_window_ms=Millis(0),
        state=LeaseState.ACTIVE,
        opened_at=Millis(START),
        activated_at=Millis(START),
        active_ms=Millis(0),
        accrued_to=Millis(START),
        reading=Millis(0),
        paid=MicroCredits(0),
        debt=MicroCredits(0),
        reclamation=None,
        closed_at=None,
        reason=None,
    )


def _signatures_ms(count: int) -> float:
    """What the bare library takes for as many signatures."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(sha256(b"bench"))
    signed = nacl.bindings.crypto_sign(bytes(200), secret)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(count):
            nacl.bindings.crypto_sign_open(signed, public)
        times.append((time.perf_counter() - began) * 1_000)
    return round(statistics.median(times), 3)


def _nothing(path: bytes) -> None:
    return None
