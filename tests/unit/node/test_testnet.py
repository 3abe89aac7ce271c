"""Making a network in a folder: keys and genesis for every node, and nothing readable that should not be."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fondaco.node import config, testnet
from fondaco.node.chain import read_genesis
from fondaco.node.keys.keystore import Keystore
from fondaco.node.testnet import Plan
from fondaco.protocol.errors import Refused

NAMES = ["validator-0", "validator-1", "provider-0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return testnet.create(tmp_path_factory.mktemp("networks") / "one", validators=2, providers=1)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_plan_is_what_is_read_back(made: Plan) -> None:
    assert Plan.load(made.home) == made
    assert [member.name for member in made.members] == NAMES
    assert [member.role for member in made.members] == ["validator", "validator", "provider"]
    assert [bool(member.api) for member in made.members] == [True, False, False]
    assert len(set(made.addresses())) == 3


def test_every_node_starts_from_the_same_genesis(made: Plan) -> None:
    texts = {(made.home / "nodes" / name / "genesis.json").read_bytes() for name in NAMES}
    assert texts == {(made.home / "genesis.json").read_bytes()}
    genesis = read_genesis(made.home / "genesis.json")
    assert genesis.chain == made.chain
    passphrase = config.read_passphrase(made.home)
    keys = {
        name: Keystore(made.home / "nodes" / name / "keys").load(name.rpartition("-")[0], passphrase).public_key
        for name in NAMES
    }
    assert {validator.key for validator in genesis.validators} == {keys["validator-0"], keys["validator-1"]}
    assert [account.owner for account in genesis.accounts] == [keys["provider-0"]]


def test_secrets_are_their_owners_alone(made: Plan) -> None:
    assert mode(made.home) == 0o700
    for home in (made.home, *(made.home / "nodes" / name for name in NAMES)):
        assert mode(home / "passphrase") == 0o600
        assert mode(home) == 0o700
        for key in (home / "keys").iterdir():
            assert mode(key) & 0o077 == 0, key


def test_each_node_knows_the_others_its_role_and_where_images_are(made: Plan) -> None:
    for name, address in zip(NAMES, made.addresses(), strict=True):
        settings = config.load(made.home / "nodes" / name)
        assert settings.name == name
        assert set(settings.peers) == set(made.addresses()) - {address}
        assert settings.listen.split(":")[1] in address
        assert settings.validator == name.startswith("validator")
        assert (settings.provider is None) == name.startswith("validator")
        assert settings.market == bool(settings.api) == (name == NAMES[0])
    provider = config.load(made.home / "nodes" / "provider-0").provider
    assert provider is not None
    assert provider.images is not None
    assert provider.images.resolve() == (made.home / "images").resolve()


def test_a_network_named_by_a_relative_path_finds_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    testnet.create(Path("here"), validators=1, providers=1)
    provider = config.load(Path("here/nodes/provider-0")).provider
    assert provider is not None
    assert provider.images is not None
    assert provider.images.resolve() == tmp_path / "here" / "images"


def test_a_folder_that_holds_a_network_is_not_made_into_another(made: Plan) -> None:
    before = {path: path.read_bytes() for path in made.home.rglob("*") if path.is_file()}
    with pytest.raises(Refused) as refusal:
        testnet.create(made.home, validators=1, providers=0)
    assert refusal.value.code == "testnet.exists"
    assert {path: path.read_bytes() for path in made.home.rglob("*") if path.is_file()} == before


def test_two_networks_share_nothing(made: Plan, tmp_path: Path) -> None:
    other = testnet.create(tmp_path / "two", validators=2, providers=1)
    assert other.chain != made.chain
    assert not set(other.addresses()) & set(made.addresses())


@pytest.mark.parametrize(
    "document",
    ["{", "[]", "{}", '{"chain": "c"}', '{"chain": "c", "members": [{}]}', '{"chain": "c", "members": [1]}'],
)
def test_a_listing_that_was_changed_by_hand_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "testnet.json").write_text(document, encoding="utf-8")
    with pytest.raises(Refused) as refusal:
        Plan.load(tmp_path)
    assert refusal.value.code == "testnet.malformed"


def test_a_folder_without_a_network_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        Plan.load(tmp_path)
    assert refusal.value.code == "testnet.missing"
    assert "fondaco testnet up" in refusal.value.hint


def test_the_listing_is_json_for_other_programs(made: Plan) -> None:
    document = json.loads((made.home / "testnet.json").read_text(encoding="utf-8"))
    assert set(document) == {"chain", "members"}
    assert set(document["members"][0]) == {"name", "role", "address", "api"}


def test_a_full_node_validates_nothing_provides_nothing_and_is_known_to_all(tmp_path: Path) -> None:
    plan = testnet.create(tmp_path, validators=1, providers=0, full_nodes=1)
    home = tmp_path / "nodes" / "full-0"
    settings = config.load(home)
    assert (settings.validator, settings.provider, settings.api) == (False, None, "")
    assert [path.stem for path in (home / "keys").iterdir()] == ["node"]
    assert config.load(tmp_path / "nodes" / "validator-0").peers == (plan.members[1].address,)
    assert len(read_genesis(tmp_path / "genesis.json").validators) == 1
