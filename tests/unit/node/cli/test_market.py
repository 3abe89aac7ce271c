"""`fondaco market` and `fondaco why` over a node's home that grew by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.ledger import Draft
from tests.support.markets import Marketplace, marketplace, story

from fondaco.node import config
from fondaco.node.cli import cli
from fondaco.node.config import NodeConfig
from fondaco.node.files import DirectoryLock

NAMES = ("alice", "bob", "paul", "petra")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Marketplace]:
    (tmp_path / "data").mkdir()
    settings = NodeConfig(home=tmp_path, name="n", listen="127.0.0.1:1", market=True)
    (tmp_path / "node.toml").write_text(config.dump(settings))
    with marketplace(tmp_path / "data", *NAMES) as opened:
        yield opened


@pytest.fixture
def told(place: Marketplace) -> list[Draft]:
    return story(place)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def answer(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", ["prices", "gpu", "capacity", "providers", "query closings"])
def test_questions_are_answered_for_people_and_programs(
    tmp_path: Path, place: Marketplace, told: list[Draft], command: str
) -> None:
    found = answer("market", *command.split(), "--home", tmp_path)
    assert (found["start_height"], found["height"]) == (1, place.chain.head.height)
    assert command.split()[-1] in found
    text = run("market", *command.split(), "--home", tmp_path)
    assert text.exit_code == 0
    assert f"blocks 1 to {place.chain.head.height}" in text.stdout


def test_tables_show_rows_and_say_where_there_are_none(tmp_path: Path, told: list[Draft]) -> None:
    text = run("market", "gpu", "--home", tmp_path).stdout
    assert "nothing yet" in text
    rows = run("market", "query", "closings", "--home", tmp_path).stdout.splitlines()
    assert rows[:2] == ["Why leases end", "  reason  leases  paid"]


def test_queries_are_listed_and_others_refused(tmp_path: Path, place: Marketplace) -> None:
    assert "order_times" in run("market", "query").stdout
    assert "order_times" in answer("market", "query")
    refused = run("market", "query", "nonsense", "--home", tmp_path)
    assert (refused.exit_code, "market.query" in refused.stderr) == (1, True)


def test_a_database_built_anew_is_equal_until_the_node_goes_on(
    tmp_path: Path, place: Marketplace, told: list[Draft]
) -> None:
    out = tmp_path / "again.db"
    made = answer("market", "rebuild", "--home", tmp_path, "--out", out)
    assert made == {
        "database": str(out),
        "start_height": 1,
        "height": place.chain.head.height,
        "entries": place.log.last(),
    }
    assert answer("market", "compare", place.database, out) == {"equal": True, "difference": ""}
    assert run("market", "compare", place.database, out).stdout == "equal\n"
    assert "market.exists" in run("market", "rebuild", "--home", tmp_path, "--out", out).stderr
    place.grow()
    differs = run("market", "compare", "--ledger", place.database, out)
    assert (differs.exit_code, "[market.differs]" in differs.stderr) == (1, True)
    as_json = run("market", "compare", place.database, out, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["equal"] is False
    assert "market.none" in run("market", "compare", out, tmp_path / "nothing.db").stderr


def test_it_takes_the_place_of_the_nodes_own_only_while_the_node_stands(
    tmp_path: Path, place: Marketplace, told: list[Draft]
) -> None:
    answer("market", "rebuild", "--home", tmp_path, "--out", tmp_path / "before.db")
    place.work.close()
    place.database.unlink()
    text = run("market", "rebuild", "--home", tmp_path)
    assert f"height           {place.chain.head.height}" in text.stdout
    assert answer("market", "compare", place.database, tmp_path / "before.db")["equal"] is True
    with DirectoryLock(tmp_path / "data"):
        busy = run("market", "rebuild", "--home", tmp_path)
    assert (busy.exit_code, "home.in_use" in busy.stderr) == (1, True)


def test_why_answers_with_a_chain_with_candidates_or_with_one_line(
    tmp_path: Path, place: Marketplace, told: list[Draft]
) -> None:
    lease = told[0].lease.hex()
    found = answer("why", lease[:16], "--home", tmp_path)
    assert (found["kind"], found["id"]) == ("lease", lease)
    assert [step["what"] for step in found["steps"]][:4] == ["order", "bid", "transaction", "block"]
    text = run("why", lease, "--home", tmp_path).stdout
    assert text.startswith(f"lease {lease}\n")
    assert "signed by power 10 of 10" in text
    many = run("why", "fond1", "--home", tmp_path)
    assert (many.exit_code, "why.ambiguous" in many.stderr) == (1, True)
    listed = run("why", "fond1", "--home", tmp_path, "--json")
    assert listed.exit_code == 1
    assert {one["kind"] for one in json.loads(listed.stdout)["candidates"]} == {"account"}
    unknown = run("why", "ffffffffffffffff", "--home", tmp_path)
    assert unknown.exit_code == 1
    assert unknown.stderr.splitlines() == [
        "fondaco: nothing that begins with 'ffffffffffffffff' is known here [why.unknown]",
        "  try: the log begins at height 1",
    ]


def test_a_node_without_a_market_is_said_to_have_none(tmp_path: Path) -> None:
    settings = NodeConfig(home=tmp_path, name="n", listen="127.0.0.1:1")
    (tmp_path / "node.toml").write_text(config.dump(settings))
    refused = run("why", "1234", "--home", tmp_path)
    assert (refused.exit_code, "[market.none]" in refused.stderr) == (1, True)
    assert "config.missing" in run("market", "prices", "--home", tmp_path / "elsewhere").stderr


def test_of_a_network_the_first_node_with_a_market_is_taken(tmp_path: Path) -> None:
    from fondaco.node import testnet
    from fondaco.node.cli.market import market_node

    testnet.create(tmp_path, validators=2, providers=0)
    assert market_node(tmp_path).name == "validator-0"
    assert not config.load(tmp_path / "nodes" / "validator-1").market
