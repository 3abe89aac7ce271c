"""The JSON schema for editors says what the strict layer says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from tests.support.sdl_files import FILES, NotJson, mutated, to_json

from fondaco.protocol import sdl
from fondaco.protocol.sdl import SdlError
from fondaco.protocol.sdl.grammar import check_shape
from fondaco.protocol.sdl.nodes import load
from fondaco.protocol.sdl.problems import Report
from fondaco.protocol.sdl.schema import json_schema

SCHEMA = jsonschema.Draft7Validator(json_schema())


def agree(text: str) -> None:
    try:
        root = load(text)
        document = to_json(root)
    except (SdlError, NotJson):
        return
    report = Report()
    check_shape(root, report, only_warn=False)
    assert SCHEMA.is_valid(document) != report.failed, list(SCHEMA.iter_errors(document))


def test_the_file_in_the_package_is_what_the_grammar_gives() -> None:
    """After a change that is meant: `fondaco sdl schema > protocol/sdl/schema.json`."""
    kept = Path(sdl.__file__).with_name("schema.json").read_text(encoding="utf-8")
    assert json.loads(kept) == json_schema()


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())


@pytest.mark.parametrize("text", FILES)
def test_files_are_judged_alike(text: str) -> None:
    agree(text)


@given(text=mutated())
def test_mangled_files_are_judged_alike(text: str) -> None:
    agree(text)


@pytest.mark.parametrize(
    ("price", "good"),
    [
        ({"denom": "uact", "amount": "1", "per": "hour"}, True),
        ({"denom": "uact", "amount": "1", "per": "minute"}, False),
    ],
)
def test_our_own_extension_is_in_it(price: dict[str, Any], good: bool) -> None:
    document = to_json(load(FILES[0]))
    (placement,) = document["profiles"]["placement"].values()
    placement["pricing"] = dict.fromkeys(placement["pricing"], price)
    assert SCHEMA.is_valid(document) == good
