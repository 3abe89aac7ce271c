"""`fondaco latency` where no network is needed: what is known, and what vantage files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.workloads import key

from fondaco.node import clock, demo, testnet
from fondaco.node.cli import cli
from fondaco.node.genesis_file import read_genesis
from fondaco.node.tenant.latency_memory import LatencyMemory
from fondaco.node.tenant.vantages import Measured, Run
from fondaco.protocol.scalars import Millis


@pytest.fixture
def home(tmp_path: Path) -> Path:
    testnet.create(tmp_path, validators=1, providers=0)
    return tmp_path


def fondaco(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


def test_a_home_that_has_measured_nothing_says_how(home: Path) -> None:
    assert (
        fondaco("latency", "show", "--home", home).stdout == "nothing was measured yet: fondaco latency measure\n"
    )
    assert json.loads(fondaco("latency", "show", "--json", "--home", home).stdout)["vantages"] == []


def test_the_fastest_come_first_and_those_that_lost_too_much_last(home: Path) -> None:
    memory = LatencyMemory(home, read_genesis(home / "genesis.json").chain)
    took: dict[int, list[int | None]] = {1: [90, 80], 2: [None, None], 3: [9, 9, 9, 20], 4: [5, None]}
    now = clock.now()
    runs = {
        number: Run(at=now, samples=tuple(None if t is None else Millis(t) for t in took[number]))
        for number in took
    }
    memory.add("paris", {key(number): Measured(peer="x", runs=(one,)) for number, one in runs.items()}, now=now)
    result = fondaco("latency", "show", "--home", home)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["from", "paris:"]
    assert [line[1:10] for line in lines[2:]] == [
        ["9", "ms", "20", "ms", "20", "ms", "0", "of", "4"],
        ["80", "ms", "90", "ms", "90", "ms", "0", "of", "2"],
        ["5", "ms", "lost", "lost", "1", "of", "2", *lines[4][8:10]],
        ["lost", "lost", "lost", "2", "of", "2", *lines[5][7:10]],
    ]
    (told,) = json.loads(fondaco("latency", "show", "--json", "--home", home).stdout)["vantages"]
    assert [one["p95_ms"] for one in told["providers"]] == [20, 90, None, None]


def test_a_bad_file_is_refused_with_the_place(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text('{"vantage": "paris"}')
    for words in (("latency", "show", file), ("deploy", demo.HELLO, "--select", "fastest", "--vantage", file)):
        result = fondaco(*words, "--home", home)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"{file}: chain: it is missing [latency.file]" in result.stderr


def test_nobody_answers_is_3(home: Path) -> None:
    assert fondaco("latency", "measure", "--home", home).exit_code == 3
