"""Files of the reference implementation and of the wild: verdicts, manifests, groups, hashes."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.fixtures import SHARED, fixtures_dir

from fondaco.protocol import manifest
from fondaco.protocol.sdl import Mode, SdlError, Stack, parse

FOLDER = SHARED / "fixtures" / "sdl"


@functools.cache
def cases() -> dict[str, dict[str, Any]]:
    index = FOLDER / "index.json"
    if not index.exists():
        return {}
    return {case["file"]: case for case in json.loads(index.read_text())["files"]}


NAMES = sorted(cases()) or ["index.json"]
PARITY = [name for name in NAMES if "expected_manifest" in cases().get(name, {})] or ["index.json"]


def folder() -> Path:
    return fixtures_dir("sdl")


def verdict(text: str, mode: Mode) -> Stack | None:
    try:
        return parse(text, mode=mode)
    except SdlError:
        return None


@pytest.mark.parametrize("name", NAMES)
def test_both_modes_judge_as_the_reference_does(name: str) -> None:
    text = (folder() / name).read_text()
    case = cases()[name]
    assert (verdict(text, Mode.STRICT) is not None) == case["must_parse"]
    stack = verdict(text, Mode.GO)
    assert (stack is not None) == case["must_parse_go_mode"]
    if stack is not None and "version_hash" in case:
        assert stack.version_hash.hex() == case["version_hash"]
        assert stack.groups_sha256.hex() == case["groups_sha256"]


@pytest.mark.parametrize("name", PARITY)
def test_manifest_and_groups_equal_the_reference(name: str) -> None:
    root = folder()
    stack = parse((root / name).read_text())
    case = cases()[name]
    expected_manifest = json.loads((root / case["expected_manifest"]).read_text())
    assert json.loads(manifest.to_json(stack.manifest)) == expected_manifest
    expected_groups = json.loads((root / case["expected_groups"]).read_text())
    assert json.loads(json.dumps(stack.groups_plain())) == expected_groups


@pytest.mark.parametrize("name", NAMES)
def test_what_a_file_yields_survives_the_wire_and_fits_its_own_group(name: str) -> None:
    case = cases().get(name, {})
    text = (folder() / name).read_text()
    if not case["must_parse_go_mode"]:
        return
    stack = parse(text, mode=Mode.GO)
    assert manifest.parse(manifest.to_json(stack.manifest)) == stack.manifest
    named = {auditor for spec in stack.specs for auditor in (spec.all_of or ()) + (spec.any_of or ())}
    if {unit.price.denom for spec in stack.specs for unit in spec.units} <= {"uact", "uakt"}:
        for group, part in zip(stack.groups(dict.fromkeys(named, bytes(32))), stack.manifest, strict=True):  # type: ignore[arg-type]
            manifest.check_against(group, part)
