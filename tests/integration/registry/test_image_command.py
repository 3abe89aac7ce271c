"""`fondaco image`, as an operator types it, beside Debian's docker-registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.made_images import make_image
from tests.support.registries import DockerRegistry

from fondaco.node.cli import cli
from fondaco.provider.runtimes.embedded import open_cache


class Operator:
    def __init__(self, home: Path, registry: DockerRegistry) -> None:
        self.home = home
        self.images = home / "provider" / "runtime" / "images"
        (home / "node.toml").write_text(
            f'name = "n"\nlisten = "127.0.0.1:1"\n[provider]\nprivate_registries = ["{registry.host}"]\n'
        )

    def types(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["image", *words, "--home", str(self.home)])

    def told(self, *words: str) -> dict[str, Any]:
        result = self.types(*words, "--json")
        assert result.exit_code == 0, result.output
        told: dict[str, Any] = json.loads(result.stdout)
        return told


@pytest.fixture
def operator(tmp_path: Path, debian: DockerRegistry) -> Operator:
    return Operator(tmp_path, debian)


def test_an_image_is_pulled_listed_and_removed(operator: Operator, debian: DockerRegistry) -> None:
    image = make_image({"a": b"1" * 10_000})
    reference = debian.push(image, "cli/app", "1")
    assert operator.told("ls")["images"] == []
    pulled = operator.told("pull", reference)
    assert pulled["digest"] == image.digest
    assert (Path(pulled["path"]) / "a").is_file()
    (row,) = operator.told("ls")["images"]
    assert (row["digest"], row["references"]) == (image.digest, [reference])
    assert (row["private"], row["in_use"]) == (False, False)
    assert row["size_bytes"] >= 10_000
    assert reference in operator.types("ls").stdout
    removed = operator.told("rm", reference)
    assert [one["digest"] for one in removed["removed"]] == [image.digest]
    told = operator.told("ls")
    assert told["images"] == []
    assert told["downloads_bytes"] > 0
    assert operator.told("prune")["freed_bytes"] == told["downloads_bytes"]
    assert operator.told("ls")["total_bytes"] == 0


def test_pruning_keeps_what_it_is_told_to_and_what_was_used_last(
    operator: Operator, debian: DockerRegistry
) -> None:
    for number in (1, 2):
        operator.told("pull", debian.push(make_image({"a": b"%d" % number * 10_000}), "cli/pruned", str(number)))
    newest = operator.told("ls")["images"][0]
    assert newest["references"] == [f"{debian.host}/cli/pruned:2"]
    operator.told("prune", "--to", str(newest["size_bytes"]))
    assert operator.told("ls")["images"] == [newest]
    result = operator.types("prune")
    assert f"removed {debian.host}/cli/pruned:2" in result.stdout


def test_an_image_that_a_workload_is_of_is_not_removed(operator: Operator, debian: DockerRegistry) -> None:
    reference = debian.push(make_image({"used": b"1"}), "cli/used", "1")
    pulled = operator.told("pull", reference)
    run = operator.images.parent / "run" / "workload"
    run.mkdir()
    (run / "image.json").write_text(json.dumps({"key": Path(pulled["path"]).name}))
    starting = operator.images.parent / "run" / "starting"
    starting.mkdir()
    (starting / "image.json").write_text("")  # not written yet
    result = operator.types("rm", pulled["digest"])
    assert result.exit_code == 1
    assert "[image.in_use]" in result.stderr
    assert operator.told("prune")["removed"] == []
    assert "in use" in operator.types("ls").stdout
    assert [record.digest for record in open_cache(operator.images.parent, 0).records()] == [pulled["digest"]]


def test_what_cannot_be_pulled_or_removed_is_one_line_and_a_code(
    operator: Operator, debian: DockerRegistry, tmp_path: Path
) -> None:
    for words, code in (
        (("pull", f"{debian.host}/cli/nowhere:1"), "image.not_found"),
        (("pull", "127.0.0.1:1/a:1"), "image.address"),
        (("pull", "Not An Image"), "image.reference"),
        (("rm", "nginx"), "image.not_found"),
    ):
        result = operator.types(*words)
        assert result.exit_code == 1
        first, *rest = result.stderr.splitlines()
        assert first.endswith(f"[{code}]")
        assert len(rest) <= 1
    (tmp_path / "node.toml").write_text('name = "n"\nlisten = "127.0.0.1:1"\n')
    assert "[provider.none]" in operator.types("ls").stderr
