"""Which odd signatures validators accept. They must all accept the same, so the set is pinned here.

A change of PyNaCl that fails these tests would fork the chain: it needs a coordinated upgrade.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.fixtures import fixtures_dir

from fondaco.protocol.scalars import PublicKey, Signature
from fondaco.protocol.signing import verify


def _load(name: str) -> Any:
    return json.loads((fixtures_dir("consensus") / name).read_text())


def _accepts(key: str, message: bytes, signature: str) -> bool:
    return verify(PublicKey(bytes.fromhex(key)), message, Signature(bytes.fromhex(signature)))


def test_speccheck_acceptance_is_pinned() -> None:
    cases = _load("ed25519/speccheck_cases.json")
    verdicts = [_accepts(case["pub_key"], bytes.fromhex(case["message"]), case["signature"]) for case in cases]
    assert "".join("V" if verdict else "X" for verdict in verdicts) == "XXXVXXXXXXXX"


def test_no_zip215_oddity_is_accepted() -> None:
    """Small-order and non-canonical points: ZIP 215 takes all 196, we take none."""
    cases = _load("ed25519/zip215.json")
    assert len(cases) == 196
    assert not any(_accepts(case["vk_bytes"], b"Zcash", case["sig_bytes"]) for case in cases)


def test_wycheproof_agrees_on_all_151() -> None:
    tests = [
        (group["publicKey"]["pk"], test)
        for group in _load("wycheproof/ed25519_test.json")["testGroups"]
        for test in group["tests"]
    ]
    wrong = [
        test["tcId"]
        for key, test in tests
        if _accepts(key, bytes.fromhex(test["msg"]), test["sig"]) is not (test["result"] == "valid")
    ]
    assert (len(tests), wrong) == (151, [])
