"""Auditors by name: the table in a home, beside that of genesis; and how what they say is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fondaco.node.cli import cli
from fondaco.node.cli.audit import _lines, _plain
from fondaco.node.tenant.auditing import ALIASES, Standing, auditor_of, local_aliases
from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Attestation, Provider
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import Hash, MicroStake, Millis, PublicKey, SealingKey

AKASH = "akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63"
ANN, PAUL = PublicKey(bytes([1]) * 32), PublicKey(bytes([2]) * 32)
DAY = 86_400_000


def home(path: Path, text: str) -> Path:
    (path / ALIASES).write_text(text)
    return path


def test_a_home_without_a_table_adds_nothing(tmp_path: Path) -> None:
    assert local_aliases(tmp_path) == ()


def test_a_table_names_keys_by_their_addresses(tmp_path: Path) -> None:
    aliases = local_aliases(home(tmp_path, f'{AKASH} = "{addresses.encode(ANN)}"\n'))
    assert aliases == ((AKASH, ANN),)
    assert auditor_of(AKASH, dict(aliases)) == ANN
    assert auditor_of(addresses.encode(PAUL), dict(aliases)) == PAUL
    with pytest.raises(Refused, match="not an address"):
        auditor_of("akash1somebody", dict(aliases))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("akash1 is nobody", ALIASES),
        (f"{AKASH} = 5\n", "in quotes"),
        (f"[{AKASH}]\nx = 1\n", "in quotes"),
        (f'{AKASH} = "fond1nobody"\n', AKASH),
        ("".join(f'a{number} = "x"\n' for number in range(limits.AUDITOR_ALIASES + 1)), "at most"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_and_says_where(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Refused) as caught:
        local_aliases(home(tmp_path, text))
    assert caught.value.code == "auditors.malformed"
    assert says in caught.value.message


def test_a_table_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / ALIASES).mkdir()
    with pytest.raises(Refused, match=ALIASES):
        local_aliases(tmp_path)


def a_standing(*said: Attestation) -> Standing:
    provider = Provider(
        key=PAUL,
        attributes=(Attribute(key="region", value="eu"), Attribute(key="tier", value="gold")),
        peer="peer",
        addresses=(),
        sealing_key=SealingKey(bytes(32)),
        bond=MicroStake(1),
        registered_at=Millis(0),
    )
    return Standing(provider=provider, said=said, now=Millis(DAY))


def an_attestation(expires_at: int) -> Attestation:
    return Attestation(
        provider=PAUL,
        auditor=ANN,
        attributes=(Attribute(key="region", value="eu"),),
        attested_at=Millis(0),
        expires_at=Millis(expires_at),
        evidence=Hash(bytes(32)),
    )


def test_what_is_confirmed_is_told_with_its_end_and_evidence() -> None:
    lines = _lines({"height": 7} | _plain(a_standing(an_attestation(DAY), an_attestation(DAY - 1))))
    assert lines[:3] == ["done in block 7", addresses.encode(PAUL), "  states region=eu, tier=gold"]
    assert f"  {addresses.encode(ANN)}, until 1970-01-02T00:00:00Z" in lines
    assert f"  {addresses.encode(ANN)}, expired 1970-01-01T23:59:59Z" in lines
    assert "    confirms region=eu" in lines
    assert f"    evidence {bytes(32).hex()}" in lines


def test_where_nobody_has_spoken_that_is_told() -> None:
    assert _lines(_plain(a_standing()))[-1] == "  no auditor confirms anything"


@pytest.mark.parametrize("words", [("region",), ("=eu",), ("region=eu", "region=us")])
def test_attributes_that_are_no_pairs_are_wrong_usage(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, ["audit", "attest", addresses.encode(PAUL), *words])
    assert result.exit_code == 2
