"""The strict layer against the official JSON schema: they agree on every file, also on mangled ones."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from tests.support.fixtures import fixtures_dir
from tests.support.sdl_files import FILES, attempt, mutated

from fondaco.protocol.sdl import Mode, SdlError
from fondaco.protocol.sdl.nodes import Node, Sort, integer, load


class NotJson(ValueError):
    """The reference turns the file into JSON first, which not every YAML file is."""


def to_json(node: Node) -> Any:
    match node.sort:
        case Sort.NULL:
            return None
        case Sort.BOOL:
            return node.text in ("true", "True", "TRUE")
        case Sort.INT:
            return integer(node.text)
        case Sort.FLOAT:
            if node.text[-1] in "fFnN":
                raise NotJson
            return float(node.text.replace("_", ""))
        case Sort.LIST:
            return [to_json(child) for child in node.children]
        case Sort.MAP:
            entries = node.entries()
            if node.duplicates or any(key.sort is not Sort.TEXT for _, key, _ in entries):
                raise NotJson
            return {name: to_json(value) for name, _, value in entries}
        case _:
            return node.text


@functools.cache
def validator() -> Any:
    """The schema read by our own YAML 1.2 rules: PyYAML's would turn the enum value `off` into False."""
    schema = to_json(load((fixtures_dir("sdl") / "sdl-input.schema.yaml").read_text()))
    return jsonschema.Draft7Validator(schema)


def agree(text: str) -> None:
    schema = validator()
    try:
        valid = schema.is_valid(to_json(load(text)))
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
@settings(max_examples=5_000)
@given(text=mutated())
def test_many_mangled_files_are_judged_as_the_official_schema_judges(text: str) -> None:
    agree(text)
