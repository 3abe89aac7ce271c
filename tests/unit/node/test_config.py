"""`node.toml`: what is written is read back, and what is wrong in it is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.node import config
from fondaco.node.config import NodeConfig, ProviderConfig
from fondaco.node.keys import passphrases
from fondaco.protocol.errors import Refused

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNTS = st.integers(0, 2**63 - 1)
PROVIDERS = st.builds(
    ProviderConfig,
    attributes=st.dictionaries(TEXT, TEXT, max_size=3),
    cpu_milli=COUNTS,
    gpu_models=st.dictionaries(TEXT, COUNTS, max_size=3),
    price_gpu=st.dictionaries(TEXT, COUNTS, max_size=3),
    withdraw_every_ms=COUNTS,
    images=st.none() | st.just(Path("/var/images")),
)
BARE = 'name = "n"\nlisten = "127.0.0.1:1"\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@given(
    name=TEXT,
    listen=TEXT,
    peers=st.lists(TEXT, max_size=3).map(tuple),
    relays=st.lists(TEXT, max_size=3).map(tuple),
    announce=st.lists(TEXT, max_size=3).map(tuple),
    least=st.integers(0, 8),
    validator=st.booleans(),
    provider=st.none() | PROVIDERS,
    api=TEXT,
)
def test_what_is_dumped_is_loaded_back(
    home: Path,
    name: str,
    listen: str,
    peers: tuple[str, ...],
    relays: tuple[str, ...],
    announce: tuple[str, ...],
    least: int,
    validator: bool,
    provider: ProviderConfig | None,
    api: str,
) -> None:
    settings = NodeConfig(
        home=home,
        name=name,
        listen=listen,
        peers=peers,
        relays=relays,
        relay=validator,
        kad=not validator,
        mdns=validator,
        announce=announce,
        min_peers=least,
        validator=validator,
        provider=provider,
        api=api,
    )
    (home / "node.toml").write_text(config.dump(settings), encoding="utf-8", newline="\n")
    assert config.load(home) == settings


def test_a_relative_path_is_meant_from_the_home(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(BARE + '[provider]\nimages = "../images"\n', encoding="utf-8")
    provider = config.load(tmp_path).provider
    assert provider is not None
    assert provider.images == tmp_path / ".." / "images"


def test_everything_lies_in_the_home(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(BARE, encoding="utf-8")
    settings = config.load(tmp_path)
    assert settings.genesis == tmp_path / "genesis.json"
    assert settings.keys == tmp_path / "keys"
    assert settings.data == tmp_path / "data"
    assert settings.provider_home == tmp_path / "provider"
    assert settings.market_home == tmp_path / "data" / "market"
    assert (settings.validator, settings.provider, settings.api, settings.peers) == (False, None, "", ())


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("name = ", "config.syntax", "node.toml"),
        ("\x00", "config.syntax", "node.toml"),
        ('name = "n"\n', "config.field", "listen"),
        (BARE + "home = 'x'\n", "config.field", "home"),
        (BARE + "colour = 1\n", "config.field", "colour"),
        (BARE + "market = 1\n", "config.field", "market must be bool"),
        (BARE + "market_days = -1\n", "config.field", "market_days must be 0 or more"),
        (BARE + "validator = 1\n", "config.field", "validator must be bool"),
        (BARE + "peers = 'one'\n", "config.field", "peers"),
        (BARE + "peers = [1]\n", "config.field", "peers"),
        (BARE + "relays = [1]\n", "config.field", "relays"),
        (BARE + "announce = 'one'\n", "config.field", "announce"),
        (BARE + "min_peers = -1\n", "config.field", "min_peers"),
        (BARE + "min_peers = 9\n", "config.field", "max_peers no less"),
        (BARE + "max_peers = 65\n", "config.field", "at most 64"),
        (BARE + "provider = 3\n", "config.field", "provider"),
        (BARE + "[provider]\nimages = 3\n", "config.field", "images"),
        (BARE + "[provider]\ncpu_milli = true\n", "config.field", "cpu_milli must be int"),
        (BARE + "[provider]\ncpu_milli = 1.5\n", "config.field", "cpu_milli must be int"),
        (BARE + "[provider]\nattributes = 'a'\n", "config.field", "attributes"),
        (BARE + "[provider.attributes]\nregion = 3\n", "config.field", "attributes"),
        (BARE + "[provider.gpu_models]\nh100 = 'two'\n", "config.field", "gpu_models"),
        (BARE + "[provider.price_gpu]\n'*' = 1.5\n", "config.field", "price_gpu"),
        (BARE + "[provider]\ncolour = 1\n", "config.field", "colour"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, code: str, says: str) -> None:
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    with pytest.raises(Refused) as refusal:
        config.load(tmp_path)
    assert refusal.value.code == code
    assert says in refusal.value.message


def test_a_home_without_a_configuration_is_none(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        config.load(tmp_path)
    assert refusal.value.code == "config.missing"
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused) as refusal:
        config.load(tmp_path)
    assert refusal.value.code == "config.syntax"


def test_a_home_without_a_passphrase_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        NodeConfig(home=tmp_path, name="n", listen="").passphrase()
    assert refusal.value.code == "keys.no_passphrase"
    assert passphrases.FILE_VARIABLE in refusal.value.hint
