"""The strict layer against the official JSON schema: they agree on every file, also on mangled ones."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from tests.support.fixtures import fixtures_dir
from tests.support.sdl_files import FILES, NotJson, attempt, mutated, to_json

from fondaco.protocol.sdl import Mode, SdlError
from fondaco.protocol.sdl.nodes import load
from fondaco.protocol.sdl.schema import json_schema


@functools.cache
def validator() -> Any:
    """The schema read by our own YAML 1.2 rules: PyYAML's would turn the enum value `off` into False."""
    schema = to_json(load((fixtures_dir("sdl") / "sdl-input.schema.yaml").read_text()))
    return jsonschema.Draft7Validator(schema)


def agree(text: str) -> None:
    schema, ours = validator(), jsonschema.Draft7Validator(json_schema())
    try:
        document = to_json(load(text))
        valid = schema.is_valid(document)
        assert ours.is_valid(document) == valid, "the schema we give to editors"
    except (NotJson, SdlError):
        valid = False
    expected = valid and attempt(text, Mode.GO) is not None
    assert (attempt(text, Mode.STRICT) is not None) == expected, list(schema.iter_errors(to_json(load(text))))


@pytest.mark.parametrize("text", FILES)
def test_given_files_are_judged_as_the_official_schema_judges(text: str) -> None:
    agree(text)


@settings(max_examples=150)
@given(text=mutated())
def test_mangled_files_are_judged_as_the_official_schema_judges(text: str) -> None:
    agree(text)


@pytest.mark.heavy
@pytest.mark.timeout(400)
@settings(max_examples=5_000)
@given(text=mutated())
def test_many_mangled_files_are_judged_as_the_official_schema_judges(text: str) -> None:
    agree(text)
