"""The accepted language as a JSON schema (draft 7), for editors: made from the `grammar` that files are held to.

`schema.json` beside this module is what `json_schema` gives; a test compares. What a schema cannot say, references
and limits over the whole file, `fondaco sdl check` does.
"""

from __future__ import annotations

from typing import assert_never

from fondaco.protocol.sdl.grammar import DOCUMENT
from fondaco.protocol.sdl.nodes import Sort
from fondaco.protocol.sdl.shape import Anything, Either, Fields, Many, Named, Scalar, Schema, Shape

_TYPES = {Sort.TEXT: "string", Sort.BOOL: "boolean", Sort.INT: "integer", Sort.FLOAT: "number"}


def json_schema() -> Schema:
    """The schema of a whole file."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Stack definition language, versions 2.0 and 2.1",
        **_of(DOCUMENT),
    }


def _of(shape: Shape) -> Schema:
    match shape:
        case Scalar():
            said = shape.schema or {"type": [_TYPES[sort] for sort in shape.sorts]}
            return {"description": shape.wanted, **said}
        case Many():
            return {"type": ["array", "null"] if shape.nullable else "array", "items": _of(shape.item)}
        case Named(value, name):
            if name is None:
                return {"type": "object", "additionalProperties": _of(value)}
            return {
                "type": "object",
                "patternProperties": {name.pattern: _of(value)},
                "additionalProperties": False,
            }
        case Fields():
            return _of_fields(shape)
        case Either():
            return {"anyOf": [_of(shape.mapping), _of(shape.many)]}
        case Anything():
            return {"type": "object"}
        case _:
            assert_never(shape)


def _of_fields(shape: Fields) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {name: _of(value) for name, value in shape.known.items()},
        "additionalProperties": False,
    }
    if shape.required:
        schema["required"] = list(shape.required)
    if shape.nonempty:
        schema["minProperties"] = 1
    return schema | (shape.rule_schema or {})
