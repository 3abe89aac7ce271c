"""The key agreement of sealed manifests and of Noise: both libraries we use compute it alike, and refuse zero.

libsodium, by way of PyNaCl, seals manifests; Noise, under libp2p, uses `cryptography`. With a public key of low
order the shared secret is zero whatever the other key is: whoever went on would encrypt for everybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import nacl.bindings
import nacl.exceptions
import pytest
from noise.backends.default.diffie_hellmans import ED25519 as NoiseX25519
from noise.backends.default.keypairs import KeyPair25519
from tests.support.fixtures import fixtures_dir

from fondaco.node.keys.sealing import SealingPair, seal
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import SealingKey

BASE_POINT = (9).to_bytes(32, "little")
Agree = Callable[[bytes, bytes], bytes | None]
"""(secret, public) -> the shared secret; None: refused."""


def sealing(secret: bytes, public: bytes) -> bytes | None:
    try:
        return nacl.bindings.crypto_scalarmult(secret, public)
    except nacl.exceptions.RuntimeError:
        return None


def noise(secret: bytes, public: bytes) -> bytes | None:
    ours, theirs = KeyPair25519.from_private_bytes(secret), KeyPair25519.from_public_bytes(public)
    try:
        shared: bytes = NoiseX25519().dh(ours.private, theirs.public)
    except ValueError:
        return None
    return shared


both = pytest.mark.parametrize("agree", [sealing, noise])


def _vectors() -> list[dict[str, Any]]:
    document = json.loads((fixtures_dir("consensus") / "wycheproof/x25519_test.json").read_text())
    return [test for group in document["testGroups"] for test in group["tests"]]


def _low_order(vectors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [test for test in vectors if not int(test["shared"], 16)]


@both
def test_wycheproof_agrees_on_all_518(agree: Agree) -> None:
    """What it calls acceptable (twists, keys not reduced) is computed as it says; a zero secret is refused."""
    vectors = _vectors()
    wrong = []
    for test in vectors:
        shared = bytes.fromhex(test["shared"])
        expected = shared if any(shared) else None
        if agree(bytes.fromhex(test["private"]), bytes.fromhex(test["public"])) != expected:
            wrong.append(test["tcId"])
    refused = _low_order(vectors)
    assert (len(vectors), len(refused), wrong) == (518, 31, [])
    assert all(test["result"] == "acceptable" for test in refused), "nothing valid is refused"


def test_nothing_is_sealed_to_a_key_of_low_order_and_nothing_from_one_is_opened() -> None:
    ours = SealingPair(bytes(range(32)))
    publics = {bytes.fromhex(test["public"]) for test in _low_order(_vectors())}
    assert len(publics) > 6, "zero, one, the points of order eight, and their other spellings"
    for public in publics:
        with pytest.raises(Refused, match=r"sealing\.key"):
            seal(b"manifest", SealingKey(public))
        with pytest.raises(Refused, match=r"sealing\.broken"):
            ours.open(public + bytes(48))


@both
@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_rfc_7748_products(agree: Agree, scalar: str, point: str, product: str) -> None:
    found = agree(bytes.fromhex(scalar), bytes.fromhex(point))
    assert found == bytes.fromhex(product)


@both
def test_rfc_7748_a_thousand_times_over(agree: Agree) -> None:
    key = point = BASE_POINT
    for turn in range(1_000):
        found = agree(key, point)
        assert found is not None
        key, point = found, key
        if turn == 0:
            assert key.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert key.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@both
def test_rfc_7748_alice_and_bob_agree(agree: Agree) -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    alice_public, bob_public = agree(alice, BASE_POINT), agree(bob, BASE_POINT)
    assert alice_public is not None
    assert bob_public is not None
    assert alice_public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob_public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = agree(alice, bob_public)
    assert shared == agree(bob, alice_public)
    assert shared is not None
    assert shared.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
