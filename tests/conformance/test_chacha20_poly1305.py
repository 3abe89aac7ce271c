"""The cipher under every connection: ChaCha20-Poly1305 as Noise uses it, and a whole handshake as libp2p does it.

Noise counts its messages, so the 96-bit nonce begins with four zero bytes. Vectors with such a nonce go through
Noise's own wrapper; all others through the class it wraps.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.backends.default.ciphers import ChaCha20Cipher
from noise.connection import Keypair, NoiseConnection
from tests.support.fixtures import fixtures_dir

XX = "Noise_XX_25519_ChaChaPoly_SHA256"
NONCE_BYTES = 12


def _vectors() -> list[dict[str, Any]]:
    document = json.loads((fixtures_dir("consensus") / "wycheproof/chacha20_poly1305_test.json").read_text())
    return [test for group in document["testGroups"] for test in group["tests"]]


def _fields(test: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag"))


def _agrees(test: dict[str, Any]) -> bool:
    """Whether we encrypt and decrypt as the vector says, or refuse what it calls invalid."""
    key, nonce, data, message, encrypted, tag = _fields(test)
    cipher = ChaCha20Poly1305(key)
    try:
        opened = cipher.decrypt(nonce, encrypted + tag, data)
    except (InvalidTag, ValueError):
        return bool(test["result"] == "invalid")
    return test["result"] == "valid" and (opened, cipher.encrypt(nonce, message, data)) == (
        message,
        encrypted + tag,
    )


def test_noise_uses_this_class() -> None:
    assert ChaCha20Cipher().klass is ChaCha20Poly1305


def test_wycheproof_agrees_on_all_325() -> None:
    """256 valid, 60 with a changed tag, 9 with a nonce of another size."""
    vectors = _vectors()
    refused = [test for test in vectors if test["result"] == "invalid"]
    odd = [test for test in refused if len(test["iv"]) != 2 * NONCE_BYTES]
    wrong = [test["tcId"] for test in vectors if not _agrees(test)]
    assert (len(vectors), len(refused), len(odd), wrong) == (325, 69, 9, [])


def test_noise_counts_nonces_as_the_vectors_do() -> None:
    counted = 0
    for test in _vectors():
        key, nonce, data, message, encrypted, tag = _fields(test)
        if test["result"] != "valid" or nonce[:4] != bytes(4):
            continue
        cipher, number = ChaCha20Cipher(), int.from_bytes(nonce[4:], "little")
        cipher.initialize(key)
        assert cipher.encrypt(None, number, data, message) == encrypted + tag
        assert cipher.decrypt(None, number, data, encrypted + tag) == message
        counted += 1
    assert counted == 10, "as many as have such a nonce"


def test_rfc_8439_section_2_8_2() -> None:
    key = bytes(range(0x80, 0xA0))
    message = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = ChaCha20Poly1305(key).encrypt(
        bytes.fromhex("070000004041424344454647"), message, bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    )
    assert sealed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


def test_a_noise_xx_handshake_gives_the_published_bytes() -> None:
    """libp2p speaks one of the 36 patterns in this file; the others (pre-shared, known keys) nobody here uses."""
    path = fixtures_dir("consensus") / "noise/cacophony_25519_ChaChaPoly_SHA256.json"
    vectors = json.loads(path.read_text())["vectors"]
    (vector,) = [one for one in vectors if one["protocol_name"] == XX]
    sides = [_side(vector, "init"), _side(vector, "resp")]
    for number, message in enumerate(vector["messages"]):
        speaker, listener = sides[number % 2], sides[1 - number % 2]
        payload = bytes.fromhex(message["payload"])
        if number < 3:
            written, read = speaker.write_message(payload), listener.read_message
        else:
            written, read = speaker.encrypt(payload), listener.decrypt
        assert bytes(written).hex() == message["ciphertext"]
        assert bytes(read(bytes(written))) == payload
    assert {side.get_handshake_hash().hex() for side in sides} == {vector["handshake_hash"]}
    assert (len(vectors), len(vector["messages"])) == (36, 6)


def _side(vector: dict[str, Any], role: str) -> NoiseConnection:
    side = NoiseConnection.from_name(XX.encode())
    (side.set_as_initiator if role == "init" else side.set_as_responder)()
    side.set_prologue(bytes.fromhex(vector[f"{role}_prologue"]))
    for kind, name in ((Keypair.STATIC, "static"), (Keypair.EPHEMERAL, "ephemeral")):
        side.set_keypair_from_private_bytes(kind, bytes.fromhex(vector[f"{role}_{name}"]))
    with pytest.warns(UserWarning, match="OK for testing"):
        side.start_handshake()
    return side


def test_another_peers_bytes_end_a_noise_session() -> None:
    """A changed byte is an error, not silence: libp2p then closes the connection."""
    cipher = ChaCha20Cipher()
    cipher.initialize(bytes(32))
    sealed = cipher.encrypt(None, 7, b"", b"vote")
    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(InvalidTag):
            cipher.decrypt(None, 7, b"", changed)
    with pytest.raises(InvalidTag):
        cipher.decrypt(None, 8, b"", sealed)
