"""Checking a proof file: from an anchor that its reader trusts, by signatures, to one record of the ledger.

The anchor is either a genesis, and then every header of the file is verified from it as a light client does; or
a height and hash that the reader vouches for. The latter must be on the file's own way: what comes after it is
verified from it, what comes before is not needed, but still must be signed. Where the anchor is the header of the
record itself, nothing can expire: the reader has said that this header is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fondaco.consensus import merkle
from fondaco.consensus.certificates import SignatureCache
from fondaco.consensus.light import (
    TRUSTING_PERIOD_MS,
    FondacoBlock,
    NotEnoughTrust,
    TrustedState,
    check_own_weight,
    trust,
    verify,
)
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol import codec, limits, signing
from fondaco.protocol.agreement import Header, SignedHeader
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.proof import ProofStep, RecordProof, Voters
from fondaco.protocol.scalars import BOUNDS, Hash, Height, Millis
from fondaco.protocol.signing import Verify


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderId:
    """A header that somebody vouches for: HEIGHT:HASH."""

    height: Height
    hash: Hash

    def __str__(self) -> str:
        return f"{self.height}:{self.hash.hex()}"


Anchor = HeaderId | TrustedState[ValidatorSet]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenAt:
    """What a file proved."""

    header: Header
    key: bytes
    value: bytes | None
    steps: int
    """Headers verified."""


def parse_header_id(text: str) -> HeaderId:
    """Read HEIGHT:HASH, the hash in hexadecimal. Raises `Refused` `light.anchor`."""
    height, colon, digest = text.partition(":")
    try:
        if not (colon and height.isascii() and height.isdigit() and len(height) <= 19):
            raise ValueError
        raw = bytes.fromhex(digest)
        if len(raw) != BOUNDS[Hash][0] or len(digest) != 2 * len(raw):
            raise ValueError
    except ValueError:
        raise Refused(
            "light.anchor", f"{text!r} is no HEIGHT:HASH", hint="for example 120:9f86d0... with 64 hex digits"
        ) from None
    return HeaderId(height=Height(int(height)), hash=Hash(raw))


def step_of(signed: SignedHeader, validators: ValidatorSet, following: ValidatorSet) -> ProofStep:
    """A verified header, as a proof file holds it."""
    same = validators.hash == following.hash
    return ProofStep(
        signed=signed,
        validators=_voters(validators),
        next_validators=None if same else _voters(following),
    )


def verify_proof(
    raw: bytes,
    anchor: Anchor,
    *,
    now: Millis,
    trusting_period: int = TRUSTING_PERIOD_MS,
    check: Verify = signing.verify,
) -> ProvenAt:
    """Check a whole proof file from `anchor`.

    Raises `Malformed` for bytes that are no proof file, `PeerFault` (`light.*`, `signature.bad`, `proof.*`) for
    one that is wrong, `Refused` `light.expired`, `proof.anchor` or `proof.too_far` for one that proves nothing
    to this reader.
    """
    proof = codec.decode(raw, RecordProof)
    if not 1 <= len(proof.path) <= limits.PROOF_STEPS:
        raise Malformed("proof.steps", f"{len(proof.path)} headers, 1..{limits.PROOF_STEPS} allowed")
    blocks = _blocks(proof.path, check)
    _follow(blocks, anchor, now=now, trusting_period=trusting_period)
    header = blocks[-1].signed.header
    if not merkle.holds(header.state_root, proof.key, proof.value, codec.decode(proof.proof, merkle.Proof)):
        raise PeerFault("proof.record", "the record does not stand under the header's state root")
    return ProvenAt(header=header, key=proof.key, value=proof.value, steps=len(blocks))


def _follow(blocks: Sequence[FondacoBlock], anchor: Anchor, *, now: Millis, trusting_period: int) -> None:
    """Verify `blocks`, one from the other, starting at `anchor`."""
    if isinstance(anchor, HeaderId):
        start = _find(blocks, anchor)
        for block in blocks[: start + 1]:
            block.check_hashes()
            check_own_weight(block)
        state, rest = trust(blocks[start]), blocks[start + 1 :]
    else:
        state, rest = anchor, blocks
    for block in rest:
        try:
            state = verify(state, block, now=now, trusting_period=trusting_period)
        except NotEnoughTrust as error:
            raise Refused(
                "proof.too_far",
                f"this file has no way from the trusted header: {error.message}",
                hint="have it made from a header you trust: fondaco proof ... --from HEIGHT",
            ) from None


def _find(blocks: Sequence[FondacoBlock], anchor: HeaderId) -> int:
    """Where the header that the reader vouches for stands on the way."""
    for place, block in enumerate(blocks):
        if (block.height, block.hash) == (anchor.height, anchor.hash):
            return place
    same = [block for block in blocks if block.height == anchor.height]
    if same:
        raise Refused(
            "proof.anchor", f"the header at height {anchor.height} in this file has the hash {same[0].hash.hex()}"
        )
    held = ", ".join(str(block.height) for block in blocks[:3])
    raise Refused(
        "proof.anchor",
        f"this file does not go by way of height {anchor.height}; it holds height {held}"
        + (" and more" if len(blocks) > 3 else ""),
        hint=f"have it made from there: fondaco proof ... --from {anchor.height}",
    )


def _blocks(path: Sequence[ProofStep], check: Verify) -> list[FondacoBlock]:
    # All of one chain: a signature of another would not hold.
    holds = SignatureCache(path[0].signed.header.chain, check).holds
    blocks = []
    for step in path:
        if step.next_validators == step.validators:
            raise Malformed("proof.form", "a set that does not change is left out")
        validators = _set(step.validators)
        following = validators if step.next_validators is None else _set(step.next_validators)
        blocks.append(
            FondacoBlock(signed=step.signed, validators=validators, next_validators=following, holds=holds)
        )
    return blocks


def _voters(members: ValidatorSet) -> Voters:
    return tuple((member.public_key, member.power) for member in members.members)


def _set(voters: Voters) -> ValidatorSet:
    """Raises `Malformed` unless ordered and within bounds: there is one way to write a set."""
    if list(voters) != sorted(voters):
        raise Malformed("proof.form", "validators are ordered by key")
    return ValidatorSet.of(voters)
