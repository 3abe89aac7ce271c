"""What an operator reads and what is refused before anything is sent; the rest is shown with a network (e2e)."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fondaco.consensus.ledger.params import Params
from fondaco.consensus.ledger.stakes import free_at
from fondaco.node import joining, testnet
from fondaco.node.cli import cli
from fondaco.node.cli.stake import _plain, _tell
from fondaco.node.config import NodeConfig
from fondaco.node.keys.keystore import Keystore
from fondaco.node.tenant.joined import nodes_of
from fondaco.node.tenant.staking import Leaving, Standing, _absence, _due
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Absence, Absences, Stake
from fondaco.protocol.scalars import MicroStake, Millis, Power, PublicKey

KEY = PublicKey(bytes(range(32)))
DAY = 86_400_000


def a_standing(**changes: object) -> Standing:
    values: dict[str, object] = {
        "validator": KEY,
        "free": MicroStake(5),
        "bonded": MicroStake(10_000_000),
        "power": Power(10),
        "power_after": Power(10),
        "power_due": Power(10),
        "total_power": Power(40),
        "jailed_until": None,
        "tombstoned": False,
        "leaving": (),
        "missed": 0,
        "missed_since": None,
        "params": Params(),
    }
    return Standing(**(values | changes))  # type: ignore[arg-type]


def read(capsys: pytest.CaptureFixture[str], standing: Standing) -> str:
    _tell(_plain(standing))
    return capsys.readouterr().out


def test_one_in_good_standing_reads_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = read(capsys, a_standing()).splitlines()
    assert first.startswith("fond1")
    assert rest == ["  bonded 10000000 ustake, free 5 ustake", "  power 10 of 40, 25.00 %"]


def test_jail_absence_and_what_is_on_its_way_are_told_with_dates(capsys: pytest.CaptureFixture[str]) -> None:
    leaving = Leaving(amount=MicroStake(7), since=Millis(0), free_at=free_at(Millis(0), Params()))
    words = read(
        capsys,
        a_standing(
            power=Power(0),
            power_after=Power(3),
            jailed_until=Millis(DAY),
            leaving=(leaving,),
            missed=12,
            missed_since=Millis(1_000),
        ),
    )
    assert "on its way to power 10; 3 in two blocks" in words
    assert "jailed until 1970-01-02T00:00:00Z; then: fondaco stake unjail" in words
    assert "missing from 12 blocks in a row, since 1970-01-01T00:00:01Z" in words
    assert "unbonding 7 ustake since 1970-01-01T00:00:00Z, free from 1970-01-22T00:00:00Z on" in words


def test_one_that_was_convicted_is_told_so_and_of_no_way_back(capsys: pytest.CaptureFixture[str]) -> None:
    words = read(capsys, a_standing(tombstoned=True, jailed_until=Millis(1)))
    assert "this key validates no more" in words
    assert "unjail" not in words


def test_stake_that_is_jailed_convicted_or_too_small_comes_to_no_power() -> None:
    stake = Stake(validator=KEY, bonded=MicroStake(2_500_000), unbonding=(), jailed_until=None, tombstoned=False)
    assert _due(stake, Params()) == 2
    assert _due(None, Params()) == 0
    assert _due(stake, Params(validator_bond=MicroStake(3_000_000))) == 0


def test_an_absence_is_found_by_its_key() -> None:
    absence = Absence(validator=KEY, missed=3, since=Millis(9))
    assert _absence(Absences(absent=(absence,)), KEY) == absence
    assert _absence(Absences(absent=(absence,)), PublicKey(bytes(32))) is None


@pytest.mark.parametrize("arguments", [["bond", "0"], ["bond", "-1"], ["unbond", "1.5"], ["bond", "much"]])
def test_amounts_are_whole_ustake_from_one_up(arguments: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(cli, ["stake", *arguments, "--home", str(tmp_path)]).exit_code == 2


@pytest.mark.parametrize("change", ["jail_ms", "jail_ms=", "jail_ms=1.5", "jail_ms=-1", "=5"])
def test_a_change_of_parameters_is_a_name_and_a_whole_number(change: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["params", "set", change, "--home", str(tmp_path)])
    assert result.exit_code == (1 if change == "=5" else 2)


def test_a_parameter_is_changed_once_and_only_to_what_the_chain_allows(tmp_path: Path) -> None:
    twice = CliRunner().invoke(cli, ["params", "set", "jail_ms=5000", "jail_ms=6000", "--home", str(tmp_path)])
    assert twice.exit_code == 2
    beyond = CliRunner().invoke(cli, ["params", "set", "jail_ms=1", "--home", str(tmp_path)])
    assert beyond.exit_code == 1
    assert "params.value" in beyond.stderr


def test_in_a_nodes_home_that_node_and_its_peers_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = testnet.create(tmp_path / "net", validators=1, providers=0)
    assert nodes_of(plan.home) == plan.addresses()
    monkeypatch.setenv("FONDACO_PASSPHRASE", "correct horse")
    peers = tuple(plan.addresses())
    settings = NodeConfig(home=tmp_path / "node", name="n", listen="127.0.0.1:4001", peers=peers, validator=True)
    made = joining.make_home(settings, plan.home / "genesis.json")
    assert nodes_of(settings.home) == [made["address"], *peers]
    with pytest.raises(Refused, match=r"testnet\.missing"):
        nodes_of(tmp_path)


def test_a_network_has_an_authority_of_its_own(tmp_path: Path) -> None:
    from fondaco.node.genesis_file import read_genesis

    testnet.create(tmp_path, validators=1, providers=0)
    named = read_genesis(tmp_path / "genesis.json").authority
    assert named == Keystore(tmp_path / "keys").info("authority").public_key
