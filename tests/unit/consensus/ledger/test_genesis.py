from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisValidator, genesis_from
from fondaco.consensus.ledger.memo import Records
from fondaco.consensus.ledger.params import Params, params_from
from fondaco.consensus.ledger.start import genesis_writes, read_head
from fondaco.consensus.ledger.state import MemoryStore, State
from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import SUPPLY, TOTALS, Supply, Totals
from fondaco.protocol.scalars import Height, MicroCredits, MicroStake, Millis, Power
from fondaco.protocol.signing import Signer

KEYS = [Signer(bytes([place]) * 32).public_key for place in range(1, 70)]
GENESIS = Genesis(
    name="test-chain",
    time=Millis(1_000),
    initial_height=Height(5),
    params=Params(),
    validators=(GenesisValidator(key=KEYS[0], power=Power(3)), GenesisValidator(key=KEYS[1], power=Power(1))),
    accounts=(GenesisAccount(owner=KEYS[2], credits=MicroCredits(500), stake=MicroStake(7)),),
    auditors=(("akash1one", KEYS[3]), ("akash1two", KEYS[4])),
)


def test_a_genesis_survives_its_document() -> None:
    document = json.loads(json.dumps(GENESIS.to_json()))
    assert genesis_from(document) == GENESIS
    assert genesis_from(document).chain == GENESIS.chain
    assert GENESIS.chain.startswith("test-chain-")


def test_the_first_state_holds_what_genesis_says() -> None:
    store = MemoryStore({key: value for key, value in genesis_writes(GENESIS).items() if value is not None})
    head = read_head(store, Records())
    assert (head.height, head.hash, head.time) == (4, GENESIS.hash(), 1_000)
    state = State(store)
    assert state.require(SUPPLY, Supply) == Supply(credits=MicroCredits(500), stake=MicroStake(4_000_007))
    assert state.require(TOTALS, Totals).bonded_stake == 4_000_000


def test_every_field_of_a_genesis_changes_the_chain_id() -> None:
    changes: list[dict[str, Any]] = [
        {"name": "test-chaim"},
        {"time_ms": 1_001},
        {"initial_height": 6},
        {"params": {"fee_base": 51}},
        {"validators": GENESIS.to_json()["validators"][:1]},
        {"accounts": []},
        {"auditors": {}},
    ]
    chains = {genesis_from(GENESIS.to_json() | change).chain for change in changes}
    assert len(chains | {GENESIS.chain}) == len(changes) + 1


A, B = (addresses.encode(key) for key in KEYS[:2])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"name": "é"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "genesis.name is not text"),
        ({"time_ms": -1}, "genesis.time_ms"),
        ({"time_ms": 1.5}, "genesis.time_ms"),
        ({"time_ms": True}, "genesis.time_ms"),
        ({"time_ms": 2**63}, "genesis.time_ms"),
        ({"time_ms": limits.BLOCK_TIME_MS + 1}, "time_ms"),
        ({"initial_height": 0}, "genesis.initial_height"),
        ({"initial_height": 2**63 - 1}, "initial_height"),
        ({"params": []}, "genesis.params is not an object"),
        ({"validators": {}}, "genesis.validators is not a list"),
        ({"validators": []}, "1..64 validators"),
        ({"chain": "x", "b": 1}, "genesis has unknown fields: b, chain"),
        ({"accounts": [{"adress": A}]}, "genesis.accounts[0] has unknown fields: adress"),
        ({"validators": [5]}, "genesis.validators[0] is not an object"),
        ({"validators": [{"address": A}]}, "genesis.validators[0].power is missing"),
        ({"validators": [{"address": A, "power": 0}]}, "genesis.validators[0].power"),
        ({"validators": [{"address": A, "power": 1}, {"address": A, "power": 2}]}, "address twice"),
        ({"validators": [{"address": A, "power": 2**62}]}, "at most"),
        ({"validators": [{"address": addresses.encode(key), "power": 1} for key in KEYS]}, "1..64 validators"),
        ({"accounts": [{"address": A, "ucredit": 1, "ustake": 0}] * 2}, "address twice"),
        ({"accounts": [{"address": A, "ucredit": limits.SUPPLY + 1, "ustake": 0}]}, "ucredit"),
        (
            {"accounts": [{"address": one, "ucredit": limits.SUPPLY // 2 + 1, "ustake": 0} for one in (A, B)]},
            "ucredit",
        ),
        ({"accounts": [{"address": A, "ucredit": 0, "ustake": limits.SUPPLY}]}, "ustake"),
    ],
)
def test_a_genesis_that_cannot_start_a_chain_says_where(change: dict[str, Any], where: str) -> None:
    with pytest.raises(Refused) as caught:
        genesis_from(GENESIS.to_json() | change)
    assert caught.value.code == "genesis.malformed"
    assert where in caught.value.message


def test_other_documents_are_refused() -> None:
    documents: list[object] = [None, [], "text", 5]
    for document in documents:
        with pytest.raises(Refused, match=r"genesis\.malformed"):
            genesis_from(document)
    with pytest.raises(Refused, match=r"address\.malformed"):
        genesis_from(GENESIS.to_json() | {"auditors": {"akash1x": 5}})


def test_only_so_many_auditors_have_an_alias() -> None:
    some = {f"akash1{number}": GENESIS.to_json()["auditors"]["akash1one"] for number in range(1_000)}
    assert len(genesis_from(GENESIS.to_json() | {"auditors": some}).auditors) == 1_000
    with pytest.raises(Refused, match="at most 1000 auditors"):
        genesis_from(GENESIS.to_json() | {"auditors": some | {"akash1x": some["akash10"]}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"no_such": 1}, "unknown parameter 'no_such'"),
        ({"fee_base": -1}, "fee_base is -1, allowed 0..1000000 ucredit"),
        ({"fee_base": 1_000_001}, "fee_base"),
        ({"fee_base": True}, "fee_base is True"),
        ({"fee_base": "1"}, "fee_base is '1'"),
        ({"min_deposit": 0}, "min_deposit"),
    ],
)
def test_a_parameter_outside_its_bounds_is_refused_by_name(values: dict[str, object], said: str) -> None:
    with pytest.raises(Refused) as caught:
        params_from(values)
    assert caught.value.code == "genesis.params"
    assert said in caught.value.message


def test_a_genesis_made_in_memory_is_held_to_the_same_rules() -> None:
    broken = replace(GENESIS, validators=())
    with pytest.raises(Refused, match=r"genesis\.malformed"):
        genesis_writes(broken)
