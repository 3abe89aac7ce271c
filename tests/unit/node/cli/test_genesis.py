"""`fondaco genesis`, `node replay` and `node init`: as they are typed, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.chains import Town
from tests.support.ledger import FREE, RICH

from fondaco.node import config
from fondaco.node.chain import Chain
from fondaco.node.cli import cli, output
from fondaco.node.config import NodeConfig
from fondaco.node.genesis_file import read_genesis, state_path
from fondaco.node.keys.keystore import Keystore
from fondaco.node.storage import ChainStore
from fondaco.protocol import limits
from fondaco.protocol.scalars import Height

QUIET: Any = FREE
PASSPHRASE = {"FONDACO_PASSPHRASE": "correct horse"}


def fondaco(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], **options)


def answer(*arguments: object, **options: Any) -> Any:
    result = fondaco(*arguments, "--json", **options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(*arguments: object, **options: Any) -> str:
    """The code of the one line that says why."""
    result = fondaco(*arguments, **options)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    line = result.stderr.splitlines()[0]
    return line[line.rindex("[") + 1 : -1]


class Scene:
    """The home of a node with a chain of seven blocks."""

    def __init__(self, path: Path) -> None:
        self.path, self.home = path, path / "home"
        (self.home / "data").mkdir(parents=True)
        settings = NodeConfig(home=self.home, name="v", listen="127.0.0.1:0")
        (self.home / "node.toml").write_text(config.dump(settings))
        self.town = Town("alice", "bob", validators=4, **QUIET)
        (self.home / "genesis.json").write_text(json.dumps(self.town.genesis.to_json()))
        self.chain = self.town.open(self.home / "data" / "chain.db")
        alice, bob = self.town.actors("alice", "bob")
        for amount in range(1, 8):
            self.town.grow(self.chain, alice.pays(bob, amount))
        self.out = path / "new.json"

    def export(self, *more: object, out: Path | None = None) -> Any:
        return answer(
            "genesis", "export", "--home", self.home, "--chain-name", "heir", "--out", out or self.out, *more
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


# Genesis


def test_a_running_node_is_exported_and_the_files_are_checked_and_shown(scene: Scene) -> None:
    made = scene.export()
    assert (made["initial_height"], made["ucredit"], made["validators"]) == (8, 2 * RICH, 4)
    checked = answer("genesis", "check", scene.out)
    assert checked == {"valid": True} | {key: value for key, value in made.items() if key != "file"}
    shown = answer("genesis", "show", scene.out)
    assert shown["chain"] == made["chain"]
    assert shown["state"]["root"] == made["state_root"]
    assert shown["changed_params"] == FREE
    for command in ("check", "show"):
        text = fondaco("genesis", command, scene.out).stdout
        assert made["chain"] in text
    assert "ucredit          2000 credits" in fondaco("genesis", "check", scene.out).stdout


def test_a_genesis_that_lists_its_accounts_is_shown_and_checked(scene: Scene) -> None:
    file = scene.home / "genesis.json"
    assert "accounts         2" in fondaco("genesis", "show", file).stdout
    assert "fee_base = 0" in fondaco("genesis", "show", file).stdout
    assert answer("genesis", "check", file)["initial_height"] == 1


def test_an_older_height_is_exported_by_executing_the_blocks_up_to_it(scene: Scene) -> None:
    at_four = scene.export("--height", 4, "--time-ms", scene.chain.head.time)
    assert at_four["initial_height"] == 5
    assert at_four["time_ms"] == scene.chain.head.time
    newest = scene.export("--height", 7, out=scene.path / "newest.json")
    assert newest["state_root"] != at_four["state_root"]
    again = scene.export(out=scene.path / "again.json")
    assert again["chain"] == newest["chain"]


def test_what_cannot_be_exported_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["genesis", "export", "--home", scene.home, "--chain-name", "heir", "--out", scene.out]
    assert refusal(*command, "--height", 8) == "replay.height"
    assert refusal(*command, "--time-ms", 5) == "genesis.time"
    scene.chain.store.prune(Height(3))
    assert refusal(*command, "--height", 4) == "replay.pruned"
    assert not scene.out.exists()
    other = Town("alice", name="other").genesis
    (scene.home / "genesis.json").write_text(json.dumps(other.to_json()))
    assert refusal(*command) == "chain.other"
    scene.chain.store.path.unlink()
    assert refusal(*command) == "storage.unusable"


def test_a_file_that_is_no_genesis_is_told_in_one_line(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = scene.path / "broken.json"
    for text, code in (
        ("{", "genesis.malformed"),
        ("[" * 100_000, "genesis.malformed"),
        ("{}", "genesis.malformed"),
    ):
        broken.write_text(text)
        assert refusal("genesis", "check", broken) == code
        assert refusal("genesis", "show", broken) == code
    monkeypatch.setattr(limits, "GENESIS_BYTES", 1)
    assert refusal("genesis", "check", broken) == "genesis.malformed"
    monkeypatch.undo()
    assert refusal("genesis", "check", scene.path / "none.json") == "genesis.missing"
    scene.export()
    state_path(scene.out).unlink()
    assert refusal("genesis", "check", scene.out) == "genesis.state_missing"
    assert fondaco("genesis", "show", scene.out).exit_code == 0


# Replay


def test_a_node_is_replayed_and_progress_is_told_now_and_then(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answer("node", "replay", "--home", scene.home)
    assert found["equal"]
    assert (found["first"], found["last"], found["transactions"]) == (1, 7, 7)
    assert found["hash"] == scene.chain.head.hash.hex()
    monkeypatch.setattr(output, "PROGRESS_S", 0.0)
    result = fondaco("node", "replay", "--home", scene.home, "--to", 3)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [f"replayed {done} of 3" for done in (1, 2, 3)]
    assert "state_compared   False" in result.stdout


def test_a_difference_ends_with_code_1_and_is_told_to_programs_too(scene: Scene) -> None:
    scene.chain.store._execute("DELETE FROM validator_sets WHERE height = 5")
    scene.chain.store._db.conn.commit()
    assert refusal("node", "replay", "--home", scene.home) == "replay.validators"
    result = fondaco("node", "replay", "--home", scene.home, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["equal"], told["height"], told["code"]) == (1, False, 5, "replay.validators")


# Joining


def test_a_home_is_made_from_an_export_and_a_node_begins_with_it(scene: Scene) -> None:
    made = scene.export()
    home = scene.path / "joined"
    peer = f"/ip4/127.0.0.1/tcp/1/p2p/{'12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq'}"
    command = [
        "node",
        "init",
        "--home",
        home,
        "--genesis",
        scene.out,
        "--listen",
        "127.0.0.1:4555",
        "--peer",
        peer,
    ]
    told = answer(*command, "--validator", env=PASSPHRASE)
    assert (told["chain"], told["initial_height"], told["in_set"]) == (made["chain"], 8, False)
    assert told["address"].startswith("/ip4/127.0.0.1/tcp/4555/p2p/12D3")
    settings = config.load(home)
    assert (settings.validator, settings.peers, settings.name) == (True, (peer,), "node")
    keys = {key.name: key.address for key in Keystore(settings.keys).list()}
    assert keys["validator"] == told["validator"]
    chain = Chain.open(read_genesis(settings.genesis), home / "chain.db", state_path(settings.genesis))
    assert chain.head.height == 7
    chain.close()
    assert refusal(*command, env=PASSPHRASE) == "node.exists"


def test_keys_that_are_there_are_used(scene: Scene) -> None:
    home = scene.path / "joined"
    node = Keystore(home / "keys").create("node", "correct horse")
    command = ["node", "init", "--home", home, "--genesis", scene.home / "genesis.json"]
    assert refusal(*command, env={"FONDACO_PASSPHRASE": "another"}) == "keys.wrong_passphrase"
    assert refusal(*command, "--listen", "nowhere", env=PASSPHRASE) == "network.address"
    assert refusal(*command, "--peer", "127.0.0.1:5", env=PASSPHRASE) == "network.address"
    assert refusal(*command[:-1], scene.path / "none", env=PASSPHRASE) == "genesis.missing"
    result = fondaco(*command, env=PASSPHRASE)
    assert result.exit_code == 0
    assert "validator        None" in result.stdout
    assert Keystore(home / "keys").load("node", "correct horse").seed == node.seed
    assert not state_path(home / "genesis.json").exists()


def test_a_store_of_the_past_is_not_left_behind(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    scene.export("--height", 3)
    answer("node", "replay", "--home", scene.home)
    assert not list(folder.iterdir())
    ChainStore.view(scene.chain.store.path).close()
