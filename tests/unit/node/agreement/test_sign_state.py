from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support import children

from fondaco.node.agreement.sign_state import SignState, SignStateFailed, Statement
from fondaco.protocol.agreement import Proposal, Vote, VoteKind
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId, Hash, Height, Round
from fondaco.protocol.signing import Signer, signing_bytes, verify

CHAIN = ChainId("sample-1")
SIGNER = Signer(bytes(range(32)))
A, B = Hash(b"a" * 32), Hash(b"b" * 32)


def vote(kind: VoteKind, height: int, round_: int, value: Hash | None = A) -> Vote:
    return Vote(kind=kind, height=Height(height), round=Round(round_), value=value, valid_round=None)


def proposal(height: int, round_: int, value: Hash = A) -> Proposal:
    return Proposal(height=Height(height), round=Round(round_), value=value, valid_round=None)


def prevote(height: int, round_: int, value: Hash | None = A) -> Vote:
    return vote(VoteKind.PREVOTE, height, round_, value)


def precommit(height: int, round_: int, value: Hash | None = A) -> Vote:
    return vote(VoteKind.PRECOMMIT, height, round_, value)


IN_ORDER: list[Statement] = [
    proposal(1, 0),
    prevote(1, 0),
    precommit(1, 0),
    prevote(1, 1),
    proposal(1, 3),
    prevote(2, 0),
    precommit(2, 2),
    proposal(9, 0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sign-state"


def refused(state: SignState, statement: Statement, signer: Signer = SIGNER, chain: ChainId = CHAIN) -> str:
    with pytest.raises(Refused) as caught:
        state.sign(signer, chain, statement)
    return caught.value.code


def test_later_statements_are_signed_and_are_on_the_disk_before_they_leave(path: Path) -> None:
    state = SignState.create(path)
    for statement in IN_ORDER:
        signature = state.sign(SIGNER, CHAIN, statement)
        assert verify(SIGNER.public_key, signing_bytes(CHAIN, statement), signature)
        stored = SignState.open(path).last
        assert stored is not None
        assert stored == state.last
        assert (stored.statement, stored.signature) == (statement, signature)


@pytest.mark.parametrize("last", range(1, len(IN_ORDER)))
def test_anything_earlier_is_refused_after_a_restart_too(path: Path, last: int) -> None:
    state = SignState.create(path)
    state.sign(SIGNER, CHAIN, IN_ORDER[last])
    for earlier in IN_ORDER[:last]:
        assert refused(state, earlier) == "sign.regression"
        assert refused(SignState.open(path), earlier) == "sign.regression"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (prevote(5, 1, A), prevote(5, 1, B)),
        (prevote(5, 1, A), prevote(5, 1, None)),
        (precommit(5, 1, None), precommit(5, 1, B)),
        (proposal(5, 1, A), proposal(5, 1, B)),
    ],
)
def test_two_values_for_one_step_are_never_both_signed(path: Path, first: Statement, second: Statement) -> None:
    SignState.create(path).sign(SIGNER, CHAIN, first)
    assert refused(SignState.open(path), second) == "sign.conflict"


def test_the_same_statement_gets_the_stored_signature(path: Path) -> None:
    signature = SignState.create(path).sign(SIGNER, CHAIN, prevote(5, 1))
    written = path.stat().st_mtime_ns
    state = SignState.open(path)
    assert state.sign(SIGNER, CHAIN, prevote(5, 1)) == signature
    assert path.stat().st_mtime_ns == written


def test_one_file_serves_one_key_on_one_chain(path: Path) -> None:
    state = SignState.create(path)
    state.sign(SIGNER, CHAIN, prevote(5, 1))
    assert refused(state, prevote(6, 0), signer=Signer(bytes(32))) == "sign.key"
    assert refused(state, prevote(6, 0), chain=ChainId("other")) == "sign.chain"


def test_a_state_that_has_signed_nothing_survives_a_restart(path: Path) -> None:
    SignState.create(path)
    assert SignState.open(path).last is None


def test_a_missing_state_is_refused_and_an_existing_one_is_not_started_over(path: Path) -> None:
    with pytest.raises(Refused) as caught:
        SignState.open(path)
    assert caught.value.code == "sign.missing"
    SignState.create(path)
    with pytest.raises(Refused) as caught:
        SignState.create(path)
    assert caught.value.code == "sign.exists"


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_file_never_reads_as_another_state(path: Path, damage: str) -> None:
    SignState.create(path).sign(SIGNER, CHAIN, precommit(5, 1))
    data = path.read_bytes()
    whole = SignState.open(path).last
    for position in range(len(data) - 1):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        path.write_bytes(flipped if damage == "flip" else data[:position])
        with pytest.raises(Refused) as caught:
            SignState.open(path)
        assert caught.value.code == "sign.corrupt", position
    path.write_bytes(data[:-1])
    assert SignState.open(path).last == whole


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"about": "prevote at height 1 round 0"},
        {"signed": b"\x94\xa9fondaco/2".hex()},
        {"signed": ""},
        {"signature": "00" * 64},
        {"validator": "00"},
        {"signed": 5},
    ],
)
def test_a_file_somebody_edited_is_refused(path: Path, change: dict[str, object]) -> None:
    SignState.create(path).sign(SIGNER, CHAIN, precommit(5, 1))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(Refused) as caught:
        SignState.open(path)
    assert caught.value.code == "sign.corrupt"


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"format": 1, "validator": []}', "[" * 100_000])
def test_a_file_of_something_else_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(Refused):
        SignState.open(path)


def test_no_signature_leaves_if_the_disk_refuses(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    state = SignState.create(home / "state")
    home.rename(tmp_path / "away")
    with pytest.raises(SignStateFailed):
        state.sign(SIGNER, CHAIN, prevote(1, 0))
    assert state.last is None
    with pytest.raises(SignStateFailed):
        SignState.create(home / "state")


VALIDATOR = """
import sys
from pathlib import Path
from fondaco.node.agreement.sign_state import SignState
from fondaco.protocol.agreement import Vote, VoteKind
from fondaco.protocol.signing import Signer
path = Path(sys.argv[1])
state = SignState.open(path) if path.exists() else SignState.create(path)
start = 1 if state.last is None else state.last.statement.height + 1
for height in range(start, start + 100_000):
    vote = Vote(kind=VoteKind.PRECOMMIT, height=height, round=0, value=b"a" * 32, valid_round=None)
    print(height, state.sign(Signer(bytes(range(32))), "sample-1", vote).hex())
"""


def test_after_kill_9_nothing_that_left_can_be_contradicted(path: Path) -> None:
    for lines in (1, 9, 40):
        printed = children.kill_after(VALIDATOR, path, lines=lines)
        height = int(printed[-1].split()[0])
        state = SignState.open(path)
        assert state.last is not None
        assert state.last.statement.height in (height, height + 1)
        assert refused(state, precommit(height, 0, B)) in ("sign.conflict", "sign.regression")
