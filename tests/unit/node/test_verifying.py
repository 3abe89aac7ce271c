"""Signatures checked ahead, in threads: what holds is known from then on, and faults are left to who opens."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from tests.support.ledger import World

from fondaco.consensus.ledger.envelope import Envelopes
from fondaco.node.verifying import Verifier
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import PeerFault
from fondaco.protocol.scalars import PublicKey, Signature
from fondaco.protocol.signing import verify
from fondaco.protocol.transactions import SignedTransaction

MANY = 2 * limits.VERIFIED_AT_ONCE + limits.VERIFIED_INLINE + 1


class Scene:
    def __init__(self) -> None:
        self.world = World("alice", "bob")
        self.alice, self.bob = self.world.actors("alice", "bob")
        self.threads: list[int] = []
        self.envelopes = Envelopes(self.world.chain, self.judge)
        self.verifier = Verifier(self.envelopes, self.judge)

    def judge(self, key: PublicKey, data: bytes, signature: Signature) -> bool:
        self.threads.append(threading.get_ident())
        return verify(key, data, signature)

    def payments(self, count: int) -> list[bytes]:
        return [self.world.sign(self.alice.pays(self.bob, 1 + number)) for number in range(count)]

    def forged(self) -> bytes:
        signed = codec.decode(self.payments(1)[0], SignedTransaction)
        return codec.encode(replace(signed, signature=Signature(bytes(64))))


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("count", [1, limits.VERIFIED_INLINE, limits.VERIFIED_INLINE + 1, MANY])
async def test_what_was_looked_at_ahead_is_opened_without_another_check(scene: Scene, count: int) -> None:
    raws = scene.payments(count)
    await scene.verifier.warm(raws)
    assert len(scene.threads) == count
    assert (threading.get_ident() in scene.threads) == (count <= limits.VERIFIED_INLINE)
    assert [scene.envelopes.open(raw)[1].signature for raw in raws]
    await scene.verifier.warm(raws)
    assert len(scene.threads) == count


async def test_a_bad_signature_is_found_by_who_opens_it(scene: Scene) -> None:
    good, forged = scene.payments(2), scene.forged()
    await scene.verifier.warm([good[0], forged, good[1]])
    assert scene.verifier.knows(good)
    with pytest.raises(PeerFault, match=r"signature.bad"):
        scene.envelopes.open(forged)


async def test_garbage_is_left_alone(scene: Scene) -> None:
    await scene.verifier.warm([b"garbage", *scene.payments(3)])
    assert scene.threads == []


def test_a_few_unknown_ones_are_not_worth_a_thread(scene: Scene) -> None:
    few, more = scene.payments(limits.VERIFIED_INLINE), scene.payments(limits.VERIFIED_INLINE + 1)
    assert scene.verifier.knows(few)
    assert not scene.verifier.knows(more)
