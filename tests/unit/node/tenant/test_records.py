"""What a tenant keeps of its deployments on its own disk."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fondaco.node.tenant.records import DeploymentFile, LeaseFile, find, load_all, save
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import BlindingSalt, DeploymentId, LeaseId, PublicKey


def record(name: str, number: int, leases: int = 1) -> DeploymentFile:
    return DeploymentFile(
        deployment=DeploymentId(bytes([number]) * 32),
        name=name,
        leases=tuple(
            LeaseFile(
                lease=LeaseId(bytes([number, place]) * 16),
                provider=PublicKey(b"p" * 32),
                peer="12D3KooW",
                addresses=("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"),
                salt=BlindingSalt(b"s" * 32),
                manifest='[{"name": "größe"}]'.encode(),
                group=None,
            )
            for place in range(leases)
        ),
    )


def kept(folder: Path, *records: DeploymentFile) -> None:
    for age, one in enumerate(records):
        save(folder, one)
        os.utime(folder / f"{one.deployment.hex()}.json", ns=(age, age))


def test_what_is_saved_is_loaded_oldest_first_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deployments"
    second, first = record("b", 1, leases=2), record("a", 2)
    kept(folder, first, second)
    assert load_all(folder) == [first, second]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, "the salt is a secret"


def test_a_name_means_ones_own_deployment_before_anothers(tmp_path: Path) -> None:
    own, other = PublicKey(b"o" * 32), PublicKey(b"x" * 32)
    mine, theirs = replace(record("web", 1), owner=own), replace(record("web", 2), owner=other)
    alone = replace(record("app", 3), owner=other)
    kept(tmp_path, mine, theirs, alone)
    assert load_all(tmp_path) == [mine, theirs, alone]
    assert find(tmp_path, "web", owner=own)[0] == mine
    assert find(tmp_path, "web", owner=other)[0] == theirs
    assert find(tmp_path, "web")[0] == theirs, "the newest"
    assert find(tmp_path, "app", owner=own)[0] == alone, "whose it is, is for others to judge"


def test_a_file_of_before_owners_were_kept_is_anybodys(tmp_path: Path) -> None:
    kept(tmp_path, record("web", 1))
    (path,) = tmp_path.iterdir()
    document = json.loads(path.read_text())
    del document["owner"]
    path.write_text(json.dumps(document))
    (old,) = load_all(tmp_path)
    assert old == record("web", 1)
    assert old.is_of(PublicKey(b"o" * 32))
    path.write_text(json.dumps(document | {"owner": "00"}))
    with pytest.raises(Refused) as refusal:
        load_all(tmp_path)
    assert refusal.value.code == "deployments.malformed"


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert load_all(tmp_path / "none") == []


def test_a_name_means_the_newest_deployment_of_it(tmp_path: Path) -> None:
    old, new = record("web", 9), record("web", 1)
    kept(tmp_path, old, new)
    assert find(tmp_path, "web") == (new, new.leases[0])


def test_the_start_of_an_id_is_enough_where_it_is_unique(tmp_path: Path) -> None:
    one, two = record("one", 0x11, leases=2), record("two", 0x12)
    kept(tmp_path, one, two)
    assert find(tmp_path, one.leases[1].lease.hex()[:8]) == (one, one.leases[1])
    assert find(tmp_path, two.deployment.hex()) == (two, two.leases[0])
    with pytest.raises(Refused) as refusal:
        find(tmp_path, one.deployment.hex()[:10])
    assert refusal.value.code == "lease.ambiguous"
    for text in ("ffff", one.leases[0].lease.hex()[:3], ""):
        with pytest.raises(Refused) as refusal:
            find(tmp_path, text)
        assert refusal.value.code == "lease.not_found"
        assert "fondaco status" in refusal.value.hint


def spoilt(**changes: Any) -> str:
    document = {"deployment": "00" * 32, "name": "n", "leases": []}
    return json.dumps({**document, **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        spoilt(deployment="xx"),
        spoilt(deployment=3),
        spoilt(leases=[1]),
        spoilt(leases=[{"lease": "00"}]),
        spoilt(
            leases=[
                {"lease": "", "provider": "", "peer": "", "addresses": [], "salt": "", "manifest": 3},
            ]
        ),
    ],
)
def test_a_file_that_was_changed_by_hand_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refused) as refusal:
        load_all(tmp_path)
    assert refusal.value.code == "deployments.malformed"
    assert "bad.json" in refusal.value.message
