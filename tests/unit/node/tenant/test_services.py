"""Services on disk, and which bids their replicas may take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.bids import NOW, about, bid
from tests.support.workloads import group, key

from fondaco.node import demo
from fondaco.node.tenant import records, replicas, services
from fondaco.node.tenant.choosing import choice
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.node.tenant.services import Service
from fondaco.protocol import manifest, sdl, selection
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import BlindingSalt, DeploymentId, LeaseId, PublicKey

ONE, TWO = DeploymentId(b"\x01" * 32), DeploymentId(b"\x02" * 32)
APP = Service(
    name="app",
    count=3,
    spread="region",
    select="balanced",
    where="price < 2",
    vantages=(Path("/paris.json"),),
    deposit=7,
)


def deployed(folder: Path, identity: DeploymentId, name: str) -> DeploymentFile:
    (one,) = sdl.parse(demo.HELLO.read_bytes()).manifest
    lease = LeaseFile(
        lease=LeaseId(bytes(identity)),
        provider=PublicKey(bytes(32)),
        peer="peer",
        addresses=(),
        salt=BlindingSalt(bytes(32)),
        manifest=manifest.group_to_json(one),
        group=None,
    )
    file = DeploymentFile(deployment=identity, name=name, leases=(lease,))
    records.save(folder, file)
    return file


def test_a_service_is_the_same_after_a_restart_and_forgotten_when_it_is_over(tmp_path: Path) -> None:
    service = APP.having("app.0", ONE).having("app.2", TWO)
    assert services.load(tmp_path, "app") is None
    services.save(tmp_path, service)
    services.save_sdl(tmp_path, "app", b"version")
    assert services.load(tmp_path, "app") == service
    assert services.load_sdl(tmp_path, "app") == b"version"
    assert service.missing() == ["app.1"]
    assert services.names(tmp_path) == ["app"]
    services.forget(tmp_path, "app")
    assert services.names(tmp_path) == []
    with pytest.raises(Refused) as refusal:
        services.load_sdl(tmp_path, "app")
    assert refusal.value.code == "service.sdl"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".", "x" * 64])
def test_a_name_that_is_no_folder_is_no_service(tmp_path: Path, name: str) -> None:
    assert services.load(tmp_path, name) is None
    with pytest.raises(Refused) as refusal:
        services.save(tmp_path, Service(name=name))
    assert refusal.value.code == "service.name"


@pytest.mark.parametrize("change", [{"count": 0}, {"count": 99}, {"spread": "planet"}, {"replicas": 3}, None])
def test_a_file_that_was_changed_by_hand_is_said(tmp_path: Path, change: dict[str, object] | None) -> None:
    services.save(tmp_path, APP)
    path = services.folder(tmp_path, "app") / "service.json"
    path.write_text("nonsense" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Refused) as refusal:
        services.load(tmp_path, "app")
    assert refusal.value.code == "service.malformed"


def test_a_deployment_made_alone_is_a_service_of_one_and_a_lost_file_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "deployments"
    file = deployed(folder, ONE, "web")
    service = services.find(tmp_path, folder, "web")
    assert service.replicas == {"web": ONE}
    assert services.files(service.having("web.1", TWO), folder) == {"web": file}
    assert services.serving(file) == file.leases[0]
    services.save(tmp_path, APP)
    assert services.find(tmp_path, folder, "app") == APP
    with pytest.raises(Refused) as refusal:
        services.find(tmp_path, folder, "nothing")
    assert refusal.value.code == "lease.not_found"


# Which bids they take: those at four providers, two of them in one region

KNOWN = selection.Knowledge(
    providers={
        key(1): about("eu"),
        key(2): about("eu"),
        key(3): about("us"),
        key(4): replace(about(), attributes=()),
    }
)
BIDS = [bid(1, 100), bid(2, 200), bid(3, 300), bid(4, 50)]


def ranked(taken: object) -> list[PublicKey]:
    ranking = selection.rank(
        group(),
        BIDS,
        now=NOW,
        strategy=taken.strategy(NOW),  # type: ignore[attr-defined]
        known=KNOWN,
        where=taken.where,  # type: ignore[attr-defined]
    )
    return [one.candidate.provider for one in ranking.ranked]


def test_no_two_replicas_are_at_one_provider() -> None:
    assert ranked(replicas.apart(choice("cheapest"), [])) == [key(4), key(1), key(2), key(3)]
    assert ranked(replicas.apart(choice("cheapest"), [key(1), key(4)])) == [key(2), key(3)]
    dear = choice("cheapest", "price > 0.00015")
    assert ranked(replicas.apart(dear, [key(2)])) == [key(3)], "the tenant's own query holds as well"


def test_no_two_replicas_are_in_one_region_and_who_names_none_gets_none() -> None:
    assert ranked(replicas.apart(choice("cheapest"), [], [])) == [key(1), key(2), key(3)]
    assert ranked(replicas.apart(choice("cheapest"), [key(1)], ["EU"])) == [key(3)]


def test_a_replacement_goes_elsewhere_if_it_can_and_anywhere_rather_than_nowhere() -> None:
    chosen = replicas.rather(choice("cheapest"), regions={"eu"}, shunned={key(4)})
    assert ranked(chosen) == [key(3), key(1), key(2), key(4)]
    assert chosen.asks_of_providers


def test_which_bids_were_wanted_is_kept_as_text_that_means_the_same() -> None:
    apart = replicas.apart(choice("cheapest", "price < 2"), [key(1)], ["eu"])
    assert ranked(choice("cheapest", str(apart.where))) == ranked(apart) == [key(3)]
