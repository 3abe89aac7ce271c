"""With public egress a workload reaches public addresses, and whatever it tries nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.conftest import found
from tests.support.small_world import FAR, HOME_PORT, LATE, MINE, PORT

from fondaco.node.image import BuiltImage
from fondaco.node.provider_config import ProviderConfig
from fondaco.node.provider_settings import attributes
from fondaco.node.runtime_settings import egress_of
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.network import Egress

PUBLIC, PRIVATE = FAR[:2], FAR[2:]
ROOT = Path(__file__).parents[3]


@pytest.fixture(
    params=[
        "bubblewrap",
        pytest.param("crun", marks=pytest.mark.heavy),
        pytest.param("podman", marks=pytest.mark.heavy),
    ]
)
def seen(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    demo_layout: tuple[Path, BuiltImage],
    unpacked: Path,
) -> dict[str, Any]:
    """What a workload saw in a small world: see `small_world`."""
    pasta = shutil.which("pasta")
    if pasta is None or shutil.which("ip") is None:
        pytest.skip("pasta (passt) and ip (iproute2) are not both installed")
    if os.geteuid() != 0:
        pytest.skip("a world of the test's own needs root")
    socket = str(request.getfixturevalue("podman_service").socket) if request.param == "podman" else ""
    if request.param != "podman":
        found(request.param)
    os.symlink(unpacked, tmp_path / "images")
    layout, image = demo_layout
    done = subprocess.run(
        [
            *("unshare", "--mount", "--net", sys.executable, "-m", "tests.support.small_world"),
            *(request.param, socket, str(tmp_path), str(layout), image.reference, pasta),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_public_addresses_are_reached_and_no_others(seen: dict[str, Any]) -> None:
    reached = {place for place, answer in seen.items() if answer == "here"}
    assert {f"{host}:{PORT}:" for host in PUBLIC} <= reached
    assert {place.split(":")[0] for place in reached} == set(PUBLIC), "also not past the routes, nor this machine"
    for host in PRIVATE:
        assert seen[f"{host}:{PORT}:device"] == seen[f"{host}:{PORT}:index"] == ""
    assert seen[f"{MINE}:{HOME_PORT}:device"] == seen[f"127.0.0.1:{HOME_PORT}:"] == ""
    assert seen["10.77.0.2:7000:device"] == seen[f"{MINE}:7000:"] == "", "nor a port of another lease"
    assert seen[f"{LATE}:{HOME_PORT}:"] == "", "nor an address that this machine got meanwhile"
    assert seen["dns"] == "resolved"
    assert seen["survey"].startswith("holds ")
    assert seen["survey"].endswith("that are not public")
    assert seen["resolv.conf"] == "nameserver 8.8.8.8\n"
    # With its linker a lease loses its pasta, which comes back with the next one; those of others go on.
    assert seen["pastas"] == [2, 1, 2]
    assert seen["again"][f"{FAR[1]}:{PORT}:"] == "here"
    assert seen["left"] == []


async def test_a_provider_whose_egress_does_not_work_does_not_start(tmp_path: Path) -> None:
    runtime = EmbeddedRuntime(tmp_path, [], egress=Egress(pasta="/bin/false", dns=("9.9.9.9",)))
    with pytest.raises(Refused, match=r"runtime\.egress.*egress = \"none\"") as refused:
        await runtime.probe()
    assert refused.value.code == "runtime.egress"
    assert list((tmp_path / "run").iterdir()) == []
    assert list((tmp_path / "links").iterdir()) == []


def test_public_egress_without_its_program_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="apt install passt") as refused:
        egress_of(ProviderConfig(egress="public"))
    assert refused.value.code == "runtime.egress"


@pytest.mark.parametrize(
    "config",
    [
        ProviderConfig(egress="all"),
        ProviderConfig(egress="public", dns=()),
        ProviderConfig(egress="public", dns=("10.0.0.53",)),
        ProviderConfig(egress="public", dns=("127.0.0.53",)),
        ProviderConfig(egress="public", dns=("2620:fe::fe",)),
    ],
)
def test_settings_that_cannot_be_are_refused(config: ProviderConfig) -> None:
    with pytest.raises(Refused) as refused:
        egress_of(config)
    assert refused.value.code == "config.field"


def test_a_provider_says_on_the_ledger_that_its_egress_is_public() -> None:
    said = {one.key: one.value for one in attributes(ProviderConfig(egress="public"))}
    assert said["capabilities/egress"] == "public"
    assert "capabilities/egress" not in {one.key for one in attributes(ProviderConfig())}
    with pytest.raises(Refused, match="set egress"):
        attributes(ProviderConfig(attributes={"capabilities/egress": "public"}))
