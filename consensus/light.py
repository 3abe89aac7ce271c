"""Light verification: from a header one trusts to a later one, with certificates and no blocks between.

One step (`verify`) asks, in this order and for these reasons:

1. the trusted header has not expired: after the unbonding time its validators may have nothing to lose;
2. the hashes agree: header with certificate, header with the two sets that came along;
3. the header is from the past, give or take the clocks' drift; later than the trusted one; of this chain;
4. *adjacent* heights: its set is the one the trusted header named as next. Otherwise *skipping*: more than the
   trust level (1/3) of the set we trust signed it, so at least one honest validator did;
5. last, because it costs most: more than two thirds of its own set signed it.

Where a skip lacks trust (`NotEnoughTrust`) `Bisection` goes by way of the middle. Everything here is generic
over how headers hash and what votes sign: a `LightBlock` answers for that, `FondacoBlock` for this chain's,
and the conformance tests for CometBFT's. Times and periods are in whatever unit the blocks use.

Downwards no signature is needed: each header names the hash of the one below (`Backwards`). And where two nodes
show different headers of one height, both rightly signed, `find_divergence` says since when: more than a third of
the validators signed both sides, which is what a light-client attack is proven by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fondaco.consensus.certificates import Holds, signed_weight
from fondaco.consensus.validators import ValidatorSet
from fondaco.protocol.agreement import Header, SignedHeader
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.scalars import ChainId, Hash, Height, Millis

CLOCK_DRIFT_MS = 10_000
TRUSTING_PERIOD_MS = 14 * 24 * 3_600_000
"""Two thirds of the time that stake stays slashable after unbonding."""
TRUST_LEVEL = (1, 3)

V = TypeVar("V")
"""A validator set."""


class NotEnoughTrust(Refused):
    """Too few of the validators we trust signed a header this far ahead: try one between."""


class LightBlock(Protocol[V]):
    """A signed header and its sets, as somebody who may lie handed them over."""

    @property
    def chain(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def time(self) -> int: ...
    @property
    def hash(self) -> bytes:
        """Of the header, computed."""

    @property
    def next_validators(self) -> V: ...

    @property
    def next_validators_hash(self) -> bytes:
        """Computed, of `next_validators`."""

    @property
    def named_validators_hash(self) -> bytes:
        """What the header says its set hashes to."""

    def check_hashes(self) -> None:
        """Raise `PeerFault` unless header, certificate and both sets belong together."""

    def signed_weight(self, voters: V | None) -> tuple[int, int]:
        """(signed, total) power in `voters`; None is the block's own set, checked whole.

        Raises `PeerFault` for a signature that does not hold.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedState(Generic[V]):
    """What the light client takes for true."""

    chain: str
    height: int
    time: int
    hash: bytes
    next_validators: V
    next_validators_hash: bytes


def trust(block: LightBlock[V]) -> TrustedState[V]:
    """Trust `block`: for one that `verify` accepted, or whose height and hash the user vouches for."""
    return TrustedState(
        chain=block.chain,
        height=block.height,
        time=block.time,
        hash=block.hash,
        next_validators=block.next_validators,
        next_validators_hash=block.next_validators_hash,
    )


def trust_genesis(
    *, chain: ChainId, height: Height, time: Millis, hash: Hash, validators: ValidatorSet
) -> TrustedState[ValidatorSet]:
    """Trust a genesis document: the state below the first block. `height` is the one before that block's."""
    return TrustedState(
        chain=chain,
        height=height,
        time=time,
        hash=hash,
        next_validators=validators,
        next_validators_hash=validators.hash,
    )


def verify(
    trusted: TrustedState[V],
    block: LightBlock[V],
    *,
    now: int,
    trusting_period: int,
    clock_drift: int = CLOCK_DRIFT_MS,
    trust_level: tuple[int, int] = TRUST_LEVEL,
) -> TrustedState[V]:
    """Take one step from `trusted` to `block`.

    Raises `Refused` `light.expired`, `NotEnoughTrust`, or `PeerFault` `light.*` for a block that no honest
    peer hands out.
    """
    check_fresh(trusted, now=now, trusting_period=trusting_period)
    block.check_hashes()
    if block.time >= now + clock_drift:
        raise PeerFault("light.future", f"height {block.height} is from the future")
    if block.time <= trusted.time:
        raise PeerFault("light.time", f"height {block.height} is not later than height {trusted.height}")
    if block.chain != trusted.chain:
        raise PeerFault("light.chain", f"a header of {block.chain!r}, not of {trusted.chain!r}")
    if block.height <= trusted.height:
        raise PeerFault("light.height", f"height {block.height} is not above height {trusted.height}")
    if block.height == trusted.height + 1:
        if block.named_validators_hash != trusted.next_validators_hash:
            raise PeerFault("light.validators", f"height {block.height} has other validators than announced")
    else:
        signed, total = block.signed_weight(trusted.next_validators)
        if signed * trust_level[1] <= total * trust_level[0]:
            raise NotEnoughTrust(
                "light.not_enough_trust",
                f"height {block.height}: {signed} of {total} power trusted since height {trusted.height}",
            )
    check_own_weight(block)
    return trust(block)


def check_own_weight(block: LightBlock[V]) -> None:
    """Raise `PeerFault` unless more than two thirds of the block's own set signed, every signature holding."""
    signed, total = block.signed_weight(None)
    if signed * 3 <= total * 2:
        raise PeerFault("light.weak", f"height {block.height}: only {signed} of {total} power signed")


def check_fresh(trusted: TrustedState[V], *, now: int, trusting_period: int) -> None:
    """Raise `Refused` `light.expired` if what is trusted is too old to prove anything."""
    if trusted.time + trusting_period <= now:
        raise Refused(
            "light.expired",
            f"the header trusted, height {trusted.height}, is older than the trusting period",
            hint="give a newer HEIGHT:HASH from a source you trust",
        )


class Bisection(Generic[V]):
    """The way to `target`, sans-IO: fetch the block at `needs`, `feed` it, until `needs` is None."""

    def __init__(
        self,
        trusted: TrustedState[V],
        target: int,
        *,
        trusting_period: int,
        clock_drift: int = CLOCK_DRIFT_MS,
        trust_level: tuple[int, int] = TRUST_LEVEL,
    ) -> None:
        self.trusted = trusted
        """As far as we have got."""
        self.steps = 0
        self.path: list[LightBlock[V]] = []
        """What was verified on the way, lowest first: whoever trusts the start can follow it."""
        self._pivots = [target] if target > trusted.height else []
        self._trusting_period = trusting_period
        self._clock_drift = clock_drift
        self._trust_level = trust_level
        self._blocks: dict[int, LightBlock[V]] = {}

    @property
    def needs(self) -> int | None:
        """The height to fetch next; None once the target is trusted."""
        return self._pivots[-1] if self._pivots else None

    def feed(self, block: LightBlock[V], *, now: int) -> None:
        """Take the block at `needs`.  Raises as `verify` does, but for `NotEnoughTrust`."""
        if block.height != self.needs:
            raise PeerFault("light.height", f"asked for height {self.needs}, got {block.height}")
        self._blocks[block.height] = block
        while self._pivots and (held := self._blocks.get(self._pivots[-1])) is not None:
            self._try(held, now)

    def _try(self, block: LightBlock[V], now: int) -> None:
        self.steps += 1
        try:
            self.trusted = verify(
                self.trusted,
                block,
                now=now,
                trusting_period=self._trusting_period,
                clock_drift=self._clock_drift,
                trust_level=self._trust_level,
            )
        except NotEnoughTrust:
            # Never for an adjacent height, so the middle lies strictly between.
            self._pivots.append((self.trusted.height + block.height) // 2)
        else:
            self.path.append(self._blocks.pop(self._pivots.pop()))


class Backwards:
    """The way down to `target` by the chain of hashes, sans-IO: `feed` the header at `needs`, until it is None.

    It starts with the trusted header itself, of which only the hash may be known. No signature is checked and
    nothing expires: what a final header names as below it was final before.
    """

    def __init__(self, *, height: int, hash: bytes, target: int) -> None:
        assert target <= height, "upwards takes signatures"
        self.needs: int | None = height
        """The height to fetch next; None once the header at `target` has been fed."""
        self.expected = hash
        """What the header at `needs` must hash to."""
        self._target = target

    def feed(self, header: Header) -> None:
        """Take the header at `needs`. Raises `PeerFault` `light.height` or `light.hash`."""
        if header.height != self.needs:
            raise PeerFault("light.height", f"asked for height {self.needs}, got {header.height}")
        if header.hash() != self.expected:
            raise PeerFault("light.hash", f"the header at height {header.height} is not the one named above it")
        self.expected = header.previous
        self.needs = None if header.height == self._target else header.height - 1


B = TypeVar("B", bound=LightBlock[ValidatorSet])


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence(Generic[B]):
    """Two headers of one height, both verified, and the last height at which their chains were known to agree."""

    common_height: int
    primary: B
    witness: B


def find_divergence(common: int, primary: Sequence[B], witness: Sequence[B]) -> Divergence[B] | None:
    """Compare what two nodes showed on the way from height `common`, which both agree on.

    Each lists verified blocks, lowest first; heights that only one of them shows say nothing. None where no
    height contradicts another.
    """
    shown = {block.height: block for block in witness}
    for block in primary:
        other = shown.get(block.height)
        if other is None:
            continue
        if other.hash != block.hash:
            return Divergence(common_height=common, primary=block, witness=other)
        common = block.height
    return None


@dataclass(frozen=True, kw_only=True)
class FondacoBlock:
    """A `LightBlock` of this chain."""

    signed: SignedHeader
    validators: ValidatorSet
    next_validators: ValidatorSet
    holds: Holds
    """Of the chain we follow: `SignatureCache(chain, verify).holds`."""

    @property
    def chain(self) -> str:
        return self.signed.header.chain

    @property
    def height(self) -> int:
        return self.signed.header.height

    @property
    def time(self) -> int:
        return self.signed.header.time

    @property
    def hash(self) -> bytes:
        return self.signed.header.hash()

    @property
    def next_validators_hash(self) -> bytes:
        return self.next_validators.hash

    @property
    def named_validators_hash(self) -> bytes:
        return self.signed.header.validators

    def check_hashes(self) -> None:
        header, certificate = self.signed.header, self.signed.certificate
        if (certificate.height, certificate.value) != (header.height, header.hash()):
            raise PeerFault("light.certificate", f"the certificate is not about height {header.height}")
        if header.validators != self.validators.hash:
            raise PeerFault("light.validators", "the validators are not the ones the header names")
        if header.next_validators != self.next_validators.hash:
            raise PeerFault("light.validators", "the next validators are not the ones the header names")

    def signed_weight(self, voters: ValidatorSet | None) -> tuple[int, int]:
        signed = signed_weight(self.signed.certificate, self.validators, self.holds, counted_in=voters)
        return signed, (self.validators if voters is None else voters).total
