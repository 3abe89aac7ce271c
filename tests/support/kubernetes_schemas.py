"""Kubernetes objects held to the schemas of a server's version, as `kubernetes-validate` brings them."""

from __future__ import annotations

import functools
import json
import re
from importlib.resources import files
from typing import Any

import jsonschema_rs

OLDEST, NEWEST = "1.30", "1.37"
_ROOT = files("kubernetes_validate").joinpath("kubernetes-json-schema")


@functools.cache
def _definitions(version: str) -> Any:
    return _read(version, "_definitions.json")["$defs"]


def _read(version: str, name: str) -> dict[str, Any]:
    """References lead into the schema itself then, which is given all definitions."""
    text = _ROOT.joinpath(f"v{version}.0-local-strict", name).read_text("utf-8")
    found: dict[str, Any] = json.loads(text.replace("/api/_definitions.json#", "#"))
    return found


@functools.cache
def _validator(version: str, kind: str, api: str) -> jsonschema_rs.Validator:
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    schema = _read(version, f"{kind.lower()}-{name}.json") | {"$defs": _definitions(version)}
    schema.pop("$id", None)
    return jsonschema_rs.validator_for(schema)


def check(thing: dict[str, Any]) -> None:
    """Raises `jsonschema_rs.ValidationError` for what either server does not know, or knows otherwise."""
    for version in (OLDEST, NEWEST):
        _validator(version, thing["kind"], thing["apiVersion"]).validate(thing)
