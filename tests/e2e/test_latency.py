"""Latency by the command line, against a network of processes: measured, written, brought elsewhere, asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.shells import HELLO, Shell

from fondaco.protocol import addresses
from fondaco.protocol.signing import Signer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
NOBODY = addresses.encode(Signer(bytes([9]) * 32).public_key)


@pytest.fixture(scope="module")
def measured(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What the provider measured as, and the vantage file of it."""
    file = tmp_path_factory.mktemp("brought") / "paris.json"
    told = shell.json("latency", "measure", "--samples", "30", "--vantage", "paris", "--out", file)
    return told, file


def test_every_registered_provider_is_measured(
    shell: Shell, network: dict[str, Any], measured: tuple[dict[str, Any], Path]
) -> None:
    told, _ = measured
    (one,) = told["providers"]
    provider = next(member for member in network["members"] if member["role"] == "provider")
    assert (told["vantage"], told["chain"]) == ("paris", network["chain"])
    assert provider["address"].endswith(one["peer"])
    assert (one["samples"], one["lost"]) == (30, 0)
    assert 1 <= one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"] < 2_000


def test_a_provider_is_measured_by_its_address_or_by_what_it_is(
    shell: Shell, measured: tuple[dict[str, Any], Path]
) -> None:
    told, _ = measured
    address = told["providers"][0]["provider"]
    table = shell.text(
        "latency", "measure", address, "--samples", "5", "--vantage", "desk", "--where", "attestations >= 0"
    )
    heading, line = table.splitlines()
    assert heading.split() == ["provider", "p50", "p95", "p99", "lost", "measured"]
    assert line.startswith(address)
    assert " 0 of 5 " in line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([NOBODY], "provider.unknown"),
        (["fond1nonsense"], "address.malformed"),
        (["--where", "region = nowhere-*"], "latency.nobody"),
        (["--where", "latency.p95 < 5"], "latency.where"),
        (["--vantage", "no place"], "latency.vantage"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_line(shell: Shell, arguments: list[str], code: str) -> None:
    result = shell.run("latency", "measure", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"[{code}]" in result.stderr


def test_what_is_known_is_shown_and_what_is_brought(shell: Shell, measured: tuple[dict[str, Any], Path]) -> None:
    told, file = measured
    assert "from paris:" in shell.text("latency", "show")
    shown = shell.json("latency", "show", file)
    brought = shown["vantages"][-1]
    assert (brought["vantage"], brought["file"], shown["damaged"]) == ("paris", str(file), [])
    assert brought["providers"] == told["providers"]


def plan(shell: Shell, *options: object) -> Any:
    return shell.run("deploy", HELLO, "--name", "planned", "--dry-run", *options)


def test_a_bound_on_latency_is_measured_and_held(shell: Shell) -> None:
    met = plan(shell, "--where", "latency.p95 < 2s", "--json")
    assert met.exit_code == 0, met.stderr
    assert json.loads(met.stdout)["bids"] == 1
    assert "latency    known of 1 of 1 that bid" in met.stderr
    missed = plan(shell, "--where", "latency.p95 > 2s")
    assert missed.exit_code == 1
    assert "[bids.none]" in missed.stderr
    assert "latency.p95 > 2s: it is " in missed.stderr
    assert "of 20 probes lost" in missed.stderr
    known = {one["vantage"]: one["providers"] for one in shell.json("latency", "show")["vantages"]}
    assert [one["samples"] for one in known["here"]] == [20], "measured once for both"


def test_fastest_says_what_was_measured(shell: Shell) -> None:
    result = plan(shell, "--select", "fastest")
    assert result.exit_code == 0, result.stderr
    assert " ms for 95 of 100, " in result.stderr


def test_what_was_measured_elsewhere_decides(shell: Shell, measured: tuple[dict[str, Any], Path]) -> None:
    _, file = measured
    far = json.loads(file.read_text())
    for one in far["providers"].values():
        one["runs"][0]["samples"] = [900]
    tokyo = file.with_name("tokyo.json")
    tokyo.write_text(json.dumps(far | {"vantage": "tokyo"}))
    near = plan(shell, "--where", "latency.p95 < 800", "--vantage", file)
    assert near.exit_code == 0, near.stderr
    both = plan(shell, "--where", "latency.p95 < 800", "--vantage", file, "--vantage", tokyo)
    assert both.exit_code == 1
    assert "latency.p95 < 800: it is 900; measured: p50 900 ms" in both.stderr
    assert "from tokyo" in both.stderr


def test_replicas_are_chosen_by_what_was_measured_elsewhere_and_so_will_those_that_replace_them(
    shell: Shell, measured: tuple[dict[str, Any], Path]
) -> None:
    _, file = measured
    wanted = ("deploy", HELLO, "--name", "many", "--replicas", "1", "--where", "latency.p95 < 800")
    far = shell.run(*wanted, "--vantage", file.with_name("tokyo.json"), "--yes")
    assert far.exit_code == 1
    assert "latency.p95 < 800: it is 900" in far.stderr
    shell.json(*wanted, "--vantage", file, "--yes")
    kept = json.loads((Path(shell.home) / "services" / "many" / "service.json").read_text())
    assert kept["vantages"] == [str(file)]
    shell.text("close", "many")


def test_files_that_do_not_serve_are_refused(shell: Shell, measured: tuple[dict[str, Any], Path]) -> None:
    _, file = measured
    other = file.with_name("other.json")
    other.write_text(json.dumps(json.loads(file.read_text()) | {"chain": "another-1"}))
    for arguments, code in (
        (("--select", "fastest", "--vantage", other), "latency.chain"),
        (("--vantage", file), "latency.unused"),
    ):
        result = plan(shell, *arguments)
        assert result.exit_code == 1
        assert f"[{code}]" in result.stderr
    assert "[latency.chain]" in shell.run("latency", "show", other).stderr


def test_a_damaged_memory_is_told_of_beside_what_is_left(
    shell: Shell, measured: tuple[dict[str, Any], Path]
) -> None:
    torn = Path(shell.home) / "latency" / "torn.json"
    torn.write_text("{")
    try:
        result = shell.run("latency", "show")
        assert result.exit_code == 1
        assert "from paris:" in result.stdout
        assert f"{torn}: line 1, column 2" in result.stderr
        assert "fondaco latency measure --vantage torn" in result.stderr
    finally:
        torn.unlink()
