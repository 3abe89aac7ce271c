"""The rights that the how-to gives a provider are those that it uses: last, when all others have been used."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from tests.kubernetes.conftest import ASKED

pytestmark = pytest.mark.kubernetes
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "use-kubernetes.md"
ONE_CONNECTION = {"get", "create"}
"""Both for exec and port-forward: which of them a WebSocket needs depends on the server's version."""


def given() -> dict[str, set[str]]:
    blocks = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    (role,) = [one for block in blocks for one in yaml.safe_load_all(block) if one["kind"] == "ClusterRole"]
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            found.setdefault(resource, set()).update(rule["verbs"])
    return found


def used() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for method, path, watch in ASKED:
        if path == "/version":
            continue  # everybody's
        parts = path.split("?")[0].strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts[0] == "namespaces" and len(parts) > 2:
            parts = parts[2:]
        resource = "/".join(parts[::2][:2])
        single = len(parts) > 1
        if parts[2:] in (["exec"], ["portforward"]):
            verbs = ONE_CONNECTION
        elif method == "GET":
            verbs = {"watch"} if watch else {"get" if single else "list"}
        else:
            verbs = {"POST": {"create"}, "PATCH": {"create", "patch"}, "DELETE": {"delete"}}[method]
        found.setdefault(resource, set()).update(verbs)
    return found


@pytest.mark.skipif("FONDACO_KUBERNETES" not in os.environ, reason="no cluster")
def test_the_how_to_gives_what_is_used_and_nothing_more() -> None:
    assert used() == given()
