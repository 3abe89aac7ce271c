"""Homes that joined a network: what is refused before anything is asked, and whom they know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fondaco.node import testnet
from fondaco.node.tenant import joined
from fondaco.protocol.errors import Refused

NODES = [
    f"/ip4/192.0.2.{number}/tcp/4001/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
    for number in range(1, 21)
]


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    return testnet.create(tmp_path / "theirs", validators=1, providers=0).home / "genesis.json"


def code(home: Path, genesis: Path, nodes: list[str]) -> str:
    with pytest.raises(Refused) as refusal:
        joined.admit(home, genesis, nodes)
    return refusal.value.code


def test_a_home_is_of_the_network_it_joined_and_of_no_other(tmp_path: Path, genesis: Path) -> None:
    home = tmp_path / "mine"
    chain = joined.admit(home, genesis, NODES[:1]).chain
    assert not home.exists()
    joined.keep(home, genesis, NODES[:1], [])
    assert joined.admit(home, genesis, NODES[:1]).chain == chain
    other = testnet.create(tmp_path / "others", validators=1, providers=0).home / "genesis.json"
    before = sorted((path.name, path.read_bytes()) for path in home.iterdir())
    assert code(home, other, NODES[:1]) == "join.other_chain"
    assert sorted((path.name, path.read_bytes()) for path in home.iterdir()) == before


def test_bad_words_are_refused_before_anything_is_asked(tmp_path: Path, genesis: Path) -> None:
    home = tmp_path / "mine"
    assert code(home, tmp_path / "none.json", NODES[:1]) == "genesis.missing"
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    assert code(home, tmp_path / "bad.json", NODES[:1]) == "genesis.malformed"
    assert code(home, genesis, []) == "join.nodes"
    assert code(home, genesis, ["/ip4/192.0.2.1/tcp/4001"]) == "network.address"
    assert code(home, genesis, [NODES[0], "nowhere"]) == "network.address"
    assert code(genesis.parent, genesis, NODES[:1]) == "join.own_network"
    assert not home.exists()


def test_told_nodes_stay_in_front_and_no_more_are_kept_than_are_needed(tmp_path: Path, genesis: Path) -> None:
    home = tmp_path / "mine"
    assert joined.keep(home, genesis, NODES[4:5], NODES[:3]) == (NODES[4], *NODES[:3])
    assert joined.nodes_of(home) == [NODES[4], *NODES[:3]]
    joined.remember(home, NODES[:4])
    assert joined.nodes_of(home) == [NODES[4], *NODES[:4]]
    assert joined.keep(home, genesis, NODES[3:4], [])[:2] == (NODES[3], NODES[4])
    joined.remember(home, NODES)
    assert len(joined.nodes_of(home)) == joined.KEPT
    joined.remember(genesis.parent, NODES)
    assert not (genesis.parent / "nodes.json").exists(), "a local network knows its own"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"nodes": []}', '{"nodes": ["nowhere"]}', '{"nodes": [7]}', json.dumps({"nodes": NODES})],
)
def test_a_broken_list_of_nodes_is_one_line_and_joining_again_writes_it_anew(
    tmp_path: Path, genesis: Path, text: str
) -> None:
    joined.keep(tmp_path, genesis, NODES[:1], [])
    (tmp_path / "nodes.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refused) as refusal:
        joined.nodes_of(tmp_path)
    assert refusal.value.code == "nodes.malformed"
    assert joined.keep(tmp_path, genesis, NODES[:1], []) == (NODES[0],)
    assert joined.nodes_of(tmp_path) == NODES[:1]


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path, genesis: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(Refused) as refusal:
        joined.keep(tmp_path / "file" / "home", genesis, NODES[:1], [])
    assert refusal.value.code == "join.unwritable"
