"""`fondaco sdl`: what people and programs are told of files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fondaco import node
from fondaco.node.cli import cli
from fondaco.node.cli.excerpt import excerpt
from fondaco.protocol import limits

HELLO = Path(node.__file__).with_name("hello.yaml")


def fondaco(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["sdl", *map(str, arguments)])


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Two things are wrong with it."""
    path = tmp_path / "bad.yaml"
    text = HELLO.read_text(encoding="utf-8").replace("128Mi", "128mi").replace("count: 1", "cuont: 1")
    path.write_text(text, encoding="utf-8")
    return path


def test_files_are_checked_one_object_a_line(bad: Path) -> None:
    result = fondaco("check", HELLO, bad, "--json")
    assert result.exit_code == 1
    good, wrong = rows(result)
    assert good["ok"]
    assert good["errors"] == good["warnings"] == []
    assert len(good["version_hash"]) == len(good["groups_sha256"]) == 64
    assert not wrong["ok"]
    assert wrong["version_hash"] is None
    assert [error["code"] for error in wrong["errors"]] == ["size.suffix", "deployment.count", "key.unknown"]
    suffix = wrong["errors"][0]
    assert suffix["path"] == "profiles.compute.web.resources.memory.size"
    assert (suffix["line"], suffix["column"]) == (20, 17)
    assert suffix["found"] == "128mi"
    assert suffix["suggestion"] == "write 128Mi"


def test_people_see_the_line_with_a_caret_under_the_place(bad: Path) -> None:
    result = fondaco("check", HELLO, bad)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"{HELLO}: good"
    assert lines[1].startswith(f"{bad}:20:17: profiles.compute.web.resources.memory.size: unknown size suffix")
    assert lines[1].endswith("[size.suffix]")
    assert lines[2] == "    20 |           size: 128mi"
    assert lines[3].index("^") == lines[2].index("128mi")
    assert lines[4] == "  try: write 128Mi"
    assert "1 of 2 refused" in result.stderr


def test_good_files_alone_give_zero() -> None:
    assert fondaco("check", HELLO).exit_code == 0


def test_a_mode_may_be_chosen_and_what_it_lets_pass_is_a_warning(tmp_path: Path) -> None:
    odd = tmp_path / "odd.yaml"
    odd.write_text(HELLO.read_text(encoding="utf-8").replace("    env:", "    colour: red\n    env:"))
    (strict,) = rows(fondaco("check", odd, "--json"))
    assert [error["code"] for error in strict["errors"]] == ["key.unknown"]
    result = fondaco("check", odd, "--mode", "go", "--json")
    assert result.exit_code == 0
    (go,) = rows(result)
    assert [warning["code"] for warning in go["warnings"]] == ["key.unknown"]
    assert go["version_hash"] == rows(fondaco("check", HELLO, "--json"))[0]["version_hash"]
    assert "(warning)" in fondaco("check", odd, "--mode", "go").stdout


def test_a_file_that_cannot_be_read_is_told_of_among_the_others(tmp_path: Path) -> None:
    result = fondaco("check", tmp_path / "none.yaml", HELLO, "--json")
    assert result.exit_code == 1
    absent, good = rows(result)
    assert [error["code"] for error in absent["errors"]] == ["unreadable"]
    assert good["ok"]
    assert "sdl.unreadable" in fondaco("check", tmp_path / "none.yaml").stdout
    assert fondaco("explain", tmp_path / "none.yaml").exit_code == 1


def test_of_a_file_without_end_no_more_is_read_than_shows_it(tmp_path: Path) -> None:
    long = tmp_path / "long.yaml"
    with long.open("wb") as file:
        file.truncate(100 * limits.SDL_BYTES)
    (row,) = rows(fondaco("check", long, "--json"))
    assert [error["code"] for error in row["errors"]] == ["yaml.too_large"]


def test_a_thousand_files_are_checked_in_one_call(tmp_path: Path) -> None:
    files = []
    for number in range(1_000):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_bytes(HELLO.read_bytes())
    result = fondaco("check", *files, "--json")
    assert result.exit_code == 0
    assert [row["file"] for row in rows(result)] == list(map(str, files))


def test_the_manifest_and_the_groups_are_printed_as_they_are_hashed() -> None:
    (row,) = rows(fondaco("check", HELLO, "--json"))
    for command, name in (("manifest", "version_hash"), ("groups", "groups_sha256")):
        printed = subprocess.run(
            [sys.executable, "-m", "fondaco", "sdl", command, str(HELLO)], capture_output=True, check=True
        ).stdout
        assert hashlib.sha256(printed).hexdigest() == row[name]
        assert isinstance(json.loads(printed), list)


@pytest.mark.parametrize("command", ["manifest", "groups", "explain"])
def test_a_bad_file_is_shown_with_its_problems_and_refused(command: str, bad: Path) -> None:
    result = fondaco(command, bad)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "try: write 128Mi" in result.stderr
    assert result.stderr.splitlines()[-2] == f"fondaco: {bad} has 3 problem(s) [sdl.size.suffix]"


def test_a_file_is_explained_with_its_highest_price() -> None:
    result = fondaco("explain", HELLO)
    assert result.exit_code == 0
    assert "group anywhere: at most 0.06 credits/h" in result.output
    assert "1 x web, image fondaco/hello:demo" in result.output
    assert "1 x 0.5 CPU, 128 MiB memory, 0 GPU, disk 64 MiB" in result.output
    assert "in all at most 0.06 credits a hour, 1.44 credits a day, 43.8 credits a month" in result.output


def test_placement_and_gpu_models_are_explained_too(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    text = HELLO.read_text(encoding="utf-8")
    text = text.replace(
        "        memory:\n",
        "        gpu: {units: 1, attributes: {vendor: {nvidia: [{model: a100}, {model: h100}]}}}\n"
        "        memory:\n",
    )
    text = text.replace(
        "      pricing:\n",
        "      attributes: {region: east}\n"
        "      signedBy: {anyOf: [akash1xyz], allOf: [akash1abc]}\n"
        "      pricing:\n",
    )
    file.write_text(text, encoding="utf-8")
    told = fondaco("explain", file).output
    assert "GPU any of vendor/nvidia/model/a100, vendor/nvidia/model/h100" in told
    assert "only where region = east" in told
    assert "only where audited by all of akash1abc" in told
    assert "only where audited by any of akash1xyz" in told
    whole = json.loads(fondaco("explain", file, "--json").stdout)
    (group,) = whole["groups"]
    assert group["signed_by"] == {"all_of": ["akash1abc"], "any_of": ["akash1xyz"]}
    assert whole["max_price_per_hour"] == group["max_price_per_hour"] == 60_000
    assert group["services"] == [{"name": "web", "image": "fondaco/hello:demo", "count": 1}]


def test_a_starting_file_is_written_once_and_is_good(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    assert fondaco("init", file).exit_code == 0
    assert fondaco("check", file).exit_code == 0
    assert "at most 0.05 credits/h" in fondaco("explain", file).output
    file.write_text("mine", encoding="utf-8")
    again = fondaco("init", file)
    assert again.exit_code == 1
    assert "[sdl.exists]" in again.stderr
    assert file.read_text(encoding="utf-8") == "mine"
    assert fondaco("init", file, "--force").exit_code == 0
    assert fondaco("check", file).exit_code == 0
    assert "[sdl.unwritable]" in fondaco("init", tmp_path / "none" / "app.yaml").stderr


def test_the_schema_is_printed() -> None:
    assert json.loads(fondaco("schema").stdout)["required"] == ["version", "services", "profiles", "deployment"]


# Excerpts


def test_a_long_line_is_shown_around_the_place() -> None:
    text = "a" * 500 + "X" + "b" * 500
    line, caret = excerpt(text, 1, 501)
    assert len(line) < 120
    assert line[caret.index("^")] == "X"


def test_nothing_from_a_file_moves_the_cursor() -> None:
    line, caret = excerpt("key:\t\x1b[2J\u202ex", 1, 6)
    assert line == "     1 | key: \ufffd[2J\ufffdx"
    assert caret.index("^") == line.index("\ufffd")


def test_lines_are_counted_as_yaml_counts_them() -> None:
    text = "a\r\nb\rc\x85d\u2028e\u2029f\ng"
    assert [next(excerpt(text, number, 1))[-1] for number in range(1, 8)] == list("abcdefg")


def test_a_place_that_is_not_there_shows_nothing() -> None:
    assert list(excerpt("a", 0, 0)) == list(excerpt("a", 2, 1)) == []
