"""`fondaco net` without a node: what is wrong with a question, and tables for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fondaco.node import config, loopback
from fondaco.node.cli import cli
from fondaco.node.config import NodeConfig
from fondaco.node.net.words import ban_lines, mesh_lines, peer_lines

NOW = 1_000_000


def home(path: Path, api: str) -> Path:
    settings = NodeConfig(home=path, name="n", listen="127.0.0.1:0", api=api)
    (path / "node.toml").write_text(config.dump(settings))
    return path


def net(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["net", *arguments, "--home", str(path)])


def test_a_node_without_an_api_or_that_does_not_run_is_said_to_be_so(tmp_path: Path) -> None:
    result = net(home(tmp_path, ""), "peers")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "[node.no_api]" in result.stderr
    result = net(home(tmp_path, f"127.0.0.1:{loopback.free_port()}"), "mesh")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "[node.unreachable]" in result.stderr


def test_who_has_no_word_of_the_operators_bans_nobody(tmp_path: Path) -> None:
    result = net(home(tmp_path, "127.0.0.1:1"), "ban", "203.0.113.0/24", "--reason", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "[node.no_token]" in result.stderr


@pytest.mark.parametrize("span", ["", "1", "h", "0h", "-1h", "1.5h", "1w", "9999999999s", "²h"])
def test_a_span_is_a_number_and_a_unit(tmp_path: Path, span: str) -> None:
    result = net(home(tmp_path, "127.0.0.1:1"), "ban", "203.0.113.0/24", "--reason", "x", "--for", span)
    assert result.exit_code == 2
    assert "a number and s, m, h or d" in result.stderr


def peer(**more: Any) -> Any:
    score = {"total": -18.5, "p1": 1.5, "p4": -20.0, "p7": 0.0}
    return {
        "id": "12D3",
        "address": "198.51.100.7:4001",
        "outbound": True,
        "connected_at": NOW - 90_000,
        "round_trip_ms": None,
        "score": score,
        "streams": [{}, {}],
        "queues": [{"frames": 2, "bytes": 300, "shed": 1}, {"frames": 1, "bytes": 20, "shed": 0}],
        "faults": 3,
        **more,
    }


def test_peers_are_a_table() -> None:
    head, row = peer_lines([peer()], now_ms=NOW)
    assert head.split()[:4] == ["peer", "address", "way", "age"]
    assert " ".join(row.split()) == "12D3 198.51.100.7:4001 out 90 s - -18.5 p1=+1.5 p4=-20.0 2 3/320 B 1 3"
    well = peer(outbound=False, round_trip_ms=1.26, score={"total": 0.0, "p1": 0.0})
    assert " in   90 s  1.3     0.0    -  " in list(peer_lines([well], now_ms=NOW))[1]
    assert list(peer_lines([], now_ms=NOW)) == ["  no peer is connected"]


def test_meshes_are_told_topic_by_topic() -> None:
    topic = {
        "topic": "orders",
        "wanted": False,
        "mesh": [{"id": "A", "score": 1.0, "since": NOW - 5_000}],
        "outside": [{"id": "B", "score": -2.0, "since": None}],
        "fanout": ["C"],
        "backoffs": [{"id": "B", "left_ms": 61_000}],
        "messages": {"delivered": 7, "shed": 0},
        "per_minute": {"delivered": 3.5, "shed": 0.0},
    }
    lines = list(mesh_lines([topic], now_ms=NOW))
    assert lines[0] == "orders: 1 in the mesh, 1 outside; we do not want it"
    assert [line.split() for line in lines[2:6]] == [
        ["A", "mesh", "1.0", "5", "s"],
        ["B", "outside", "-2.0", "-"],
        ["C", "fan-out", "-", "-"],
        ["B", "back-off,", "61", "s", "left", "-", "-"],
    ]
    assert lines[6:] == ["  batches: delivered 7, shed 0", "  a minute: delivered 3.5", ""]
    still = topic | {"wanted": True, "mesh": [], "outside": [], "fanout": [], "backoffs": [], "per_minute": {}}
    assert "  nobody wants it" in list(mesh_lines([still], now_ms=NOW))


def test_bans_are_a_table() -> None:
    ban = {"subject": "203.0.113.0/24", "by": "operator", "left_ms": 59_000, "reason": "spam, and more"}
    assert list(ban_lines([ban]))[1] == "  203.0.113.0/24  operator  59 s  spam, and more"
    assert list(ban_lines([])) == ["  nobody is banned"]
