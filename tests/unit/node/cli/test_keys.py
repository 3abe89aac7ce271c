"""`fondaco keys`: making, choosing, backing up and removing keys, and no secret on any command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.terminals import on_terminal

from fondaco.node.cli import cli
from fondaco.node.config import NodeConfig, dump
from fondaco.node.files import write_atomically
from fondaco.node.keys.keystore import MINIMUM, Keystore
from fondaco.node.tenant import records
from fondaco.node.tenant.records import DeploymentFile
from fondaco.protocol.scalars import DeploymentId

PASSPHRASE = {"FONDACO_PASSPHRASE": "correct horse"}
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two keys, cheap to open, whose passphrase is `word`."""
    for name in ("tenant", "ci"):
        Keystore(tmp_path / "keys").create(name, "word", cost=MINIMUM)
    write_atomically(tmp_path / "word", b"word\n")
    return tmp_path


def keys(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(cli, ["keys", *(str(one) for one in arguments)], **options)


def told(*arguments: object, **options: Any) -> Any:
    result = keys(*arguments, "--json", **options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(*arguments: object, **options: Any) -> str:
    result = keys(*arguments, **options)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return result.stderr.partition("[")[2].partition("]")[0]


def names(home: Path) -> list[str]:
    return [key.name for key in Keystore(home / "keys").list()]


def test_keys_are_made_listed_and_restored_from_their_words(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    made = told("create", "me", "--home", home, env=PASSPHRASE)
    assert set(made) == {"name", "address", "words"}
    assert told("list", "--home", home) == {"keys": [{"name": "me", "address": made["address"], "default": True}]}
    write_atomically(tmp_path / "words", made["words"].encode())
    write_atomically(tmp_path / "passphrase", b"another")
    files = ("--words-file", tmp_path / "words", "--passphrase-file", tmp_path / "passphrase")
    assert made["address"] in keys("restore", "me", "--home", other, *files).stdout
    again = told("restore", "two", "--home", other, "--words-file", "-", input=made["words"], env=PASSPHRASE)
    assert again == {"name": "two", "address": made["address"]}
    assert Keystore(other / "keys").load("me", "another").words() == made["words"]
    assert Keystore(other / "keys").load("two", "correct horse").words() == made["words"]
    assert f"* me           {made['address']}" not in keys("list", "--home", other).stdout


def test_keys_say_what_to_do_and_what_went_wrong(tmp_path: Path) -> None:
    assert "fondaco keys create NAME" in keys("list", "--home", tmp_path).stdout
    assert "the only backup" in keys("create", "me", "--home", tmp_path, env=PASSPHRASE).stdout
    assert refusal("create", "me", "--home", tmp_path) == "keys.exists"
    words = ("restore", "you", "--home", tmp_path)
    assert refusal(*words, "--words-file", "-", input="not words", env=PASSPHRASE) == "keys.mnemonic"
    assert refusal(*words, env=PASSPHRASE) == "keys.no_words_given"
    assert keys(*words, "--words-file", "-", "--passphrase-file", "-").exit_code == 2


@pytest.mark.parametrize("option", ["--words", "--passphrase", "--new-passphrase"])
@pytest.mark.parametrize("command", ["create", "restore", "words", "passphrase"])
def test_no_secret_is_an_argument(home: Path, command: str, option: str) -> None:
    result = keys(command, "ci", "--home", home, option, "the secret")
    assert result.exit_code == 2
    assert "the secret" not in result.output


def test_a_passphrase_in_a_file_that_others_may_read_is_refused(home: Path) -> None:
    (home / "word").chmod(0o644)
    assert refusal("words", "ci", "--home", home, "--passphrase-file", home / "word") == "secret.permissions"
    assert refusal("words", "ci", "--home", home, env={"FONDACO_PASSPHRASE_FILE": str(home / "word")}) == (
        "secret.permissions"
    )


def test_the_words_are_shown_to_whoever_has_the_passphrase(home: Path) -> None:
    found = Keystore(home / "keys").load("ci", "word").words()
    for given in (("--passphrase-file", home / "word"), ("--passphrase-file", "-")):
        assert told("words", "ci", "--home", home, *given, input="word")["words"] == found
    assert keys("words", "ci", "--home", home, env={"FONDACO_PASSPHRASE": "word"}).stdout == f"{found}\n"
    assert refusal("words", "ci", "--home", home, env=PASSPHRASE) == "keys.wrong_passphrase"


def test_a_passphrase_that_lies_in_the_home_does_not_show_the_words(home: Path) -> None:
    write_atomically(home / "passphrase", b"word")
    assert refusal("words", "ci", "--home", home) == "keys.no_passphrase"


def test_a_passphrase_is_changed(home: Path) -> None:
    write_atomically(home / "new", b"new")
    given = ("--passphrase-file", home / "word", "--new-passphrase-file", home / "new")
    assert told("passphrase", "ci", "--home", home, *given)["name"] == "ci"
    assert Keystore(home / "keys").load("ci", "new")
    assert refusal("passphrase", "ci", "--home", home, *given) == "keys.wrong_passphrase"
    assert keys("passphrase", "ci", "--home", home, *given[:1], "-", *given[2:3], "-").exit_code == 2
    assert refusal("passphrase", "tenant", "--home", home, *given[:2]) == "keys.no_passphrase"
    write_atomically(home / "passphrase", b"word")
    done = keys("passphrase", "tenant", "--home", home, *given[2:])
    assert (done.exit_code, "opens it no longer" in done.stderr) == (0, True)


def test_a_new_key_is_protected_as_the_others_of_its_home(home: Path) -> None:
    assert refusal("create", "new", "--home", home) == "keys.no_passphrase"
    write_atomically(home / "passphrase", b"word")
    told("create", "new", "--home", home)
    assert Keystore(home / "keys").load("new", "word")


def test_a_key_is_shown_used_and_renamed(home: Path) -> None:
    shown = told("show", "ci", "--home", home)
    assert (shown["kind"], shown["default"], shown["file"]) == ("mnemonic", False, str(home / "keys" / "ci.key"))
    assert shown["address"] in keys("show", "ci", "--home", home).stdout
    assert told("use", "ci", "--home", home)["address"] == shown["address"]
    assert told("show", "ci", "--home", home)["default"]
    assert "* ci " in keys("list", "--home", home).stdout
    assert told("rename", "ci", "builds", "--home", home) == {"name": "builds", "address": shown["address"]}
    assert told("show", "builds", "--home", home)["default"]
    assert refusal("use", "ci", "--home", home) == "keys.not_found"
    assert refusal("rename", "builds", "tenant", "--home", home) == "keys.exists"


def test_a_key_goes_to_another_home_and_stays_encrypted(home: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "backup", tmp_path / "other"
    assert keys("export", "ci", file, "--home", home).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert refusal("export", "ci", file, "--home", home) == "keys.file"
    assert refusal("export", "ci", tmp_path / "none" / "backup", "--home", home) == "keys.file"
    assert told("import", "ci", file, "--home", other) == told("import", "two", file, "--home", other) | {
        "name": "ci"
    }
    assert keys("export", "ci", "-", "--home", home).stdout_bytes == file.read_bytes()
    assert told("words", "two", "--home", other, "--passphrase-file", home / "word")
    assert refusal("import", "ci", file, "--home", other) == "keys.exists"
    assert refusal("import", "bad", "-", "--home", other, input="{}") == "keys.malformed"


def test_a_key_is_removed_only_when_that_is_meant(home: Path) -> None:
    assert refusal("remove", "ci", "--home", home) == "keys.unconfirmed"
    assert names(home) == ["ci", "tenant"]
    assert told("remove", "ci", "--home", home, "--yes")["name"] == "ci"
    assert names(home) == ["tenant"]
    assert refusal("remove", "ci", "--home", home, "--yes") == "keys.not_found"


def test_a_key_that_the_node_here_works_with_is_not_taken_from_it(home: Path) -> None:
    for role in ("node", "validator", "provider"):
        Keystore(home / "keys").create(role, "word", cost=MINIMUM)
    write_atomically(home / "node.toml", dump(NodeConfig(home=home, name="n", listen="", validator=True)).encode())
    for role in ("node", "validator"):
        assert refusal("remove", role, "--home", home, "--yes") == "keys.in_use"
        assert refusal("rename", role, "other", "--home", home) == "keys.in_use"
    told("remove", "provider", "--home", home, "--yes")
    told("remove", "validator", "--home", home, "--yes", "--force")
    assert names(home) == ["ci", "node", "tenant"]


def test_a_key_with_deployments_of_which_nobody_knows_whether_they_ended_is_kept(home: Path) -> None:
    owner = Keystore(home / "keys").info("ci").public_key
    file = DeploymentFile(deployment=DeploymentId(bytes(32)), name="web", leases=(), owner=owner)
    records.save(home / "deployments", file)
    assert refusal("remove", "ci", "--home", home, "--yes") == "genesis.missing"
    told("remove", "tenant", "--home", home, "--yes")
    told("remove", "ci", "--home", home, "--yes", "--force")
    assert names(home) == []


# At a terminal


def test_secrets_are_asked_for_without_echo(home: Path) -> None:
    with on_terminal("keys", "restore", "paper", "--home", str(home)) as terminal:
        seen = terminal.await_text(b"Words:")
        terminal.type(WORDS.encode() + b"\n")
        seen += terminal.await_text(b"New passphrase for the key paper:")
        terminal.type(b"correct horse\n")
        seen += terminal.await_text(b"Repeat for confirmation:")
        terminal.type(b"correct horse\n")
        seen += terminal.await_text(b"address")
        assert terminal.await_exit() == 0
    assert not {b"legal", b"correct", b"horse"} & set(seen.split())
    assert Keystore(home / "keys").load("paper", "correct horse").words() == WORDS


def test_a_wrong_passphrase_may_be_typed_again_and_the_words_are_shown_then(home: Path) -> None:
    with on_terminal("keys", "words", "ci", "--home", str(home)) as terminal:
        for typed in (b"wrong", b"word"):
            terminal.await_text(b"Passphrase of the key ci:")
            terminal.type(typed + b"\n")
        terminal.await_text(Keystore(home / "keys").load("ci", "word").words().encode())
        assert terminal.await_exit() == 0


def test_who_removes_a_key_types_its_address(home: Path) -> None:
    address = Keystore(home / "keys").info("ci").address
    for typed, code in (("yes", 1), (address, 0)):
        with on_terminal("keys", "remove", "ci", "--home", str(home), columns=200) as terminal:
            terminal.await_text(b"Type the address to delete it:")
            terminal.type(typed.encode() + b"\n")
            assert terminal.await_exit() == code
    assert names(home) == ["tenant"]
