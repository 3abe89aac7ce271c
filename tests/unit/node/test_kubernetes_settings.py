"""From a provider's configuration to its cluster: what cannot be meant is refused before anything is asked."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from fondaco.node.loopback import free_port
from fondaco.node.provider_config import MachineConfig, ProviderConfig, read
from fondaco.node.runtime_settings import open_runtime
from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import survey
from fondaco.provider.runtimes.kubernetes.access import access
from fondaco.provider.runtimes.kubernetes.runtime import KubernetesRuntime

SERVER = "http://127.0.0.1:8001"


def a_config(**changes: Any) -> ProviderConfig:
    return ProviderConfig(runtime="kubernetes", **{"kubernetes_server": SERVER, **changes})


def machine(gpu_models: dict[str, int]) -> MachineConfig:
    return MachineConfig(name="a", cpu_milli=1, memory_bytes=1, gpu_models=gpu_models)


async def test_each_home_has_a_name_of_its_own_that_stays(tmp_path: Path) -> None:
    said = []
    for home in ("one", "one", "two"):
        runtime = open_runtime(a_config(), tmp_path / home)
        assert isinstance(runtime, KubernetesRuntime)
        said.append((tmp_path / home / "runtime" / "provider").read_text())
        assert runtime.kept() == ()
        await runtime.aclose()
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"images": Path("layout")}, "images"),
        ({"kubernetes_users": "root"}, "kubernetes_users"),
        ({"kubernetes_gpu_nodes": {"h100": "no-value"}}, "label=value"),
        ({"gpu_models": {"h100": 1, "vendor/amd/model/mi300x": 1}}, "mi300x"),
        (
            {
                "machines": (
                    MachineConfig(name="a", cpu_milli=1, memory_bytes=1, gpu_models={"h100": 1, "a100": 1}),
                )
            },
            "a100",
        ),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(Refused) as caught:
        open_runtime(a_config(**changes), tmp_path)
    assert caught.value.code == "config.field"
    assert word in caught.value.message


def test_files_are_meant_from_where_the_configuration_is(tmp_path: Path) -> None:
    found = read({"kubernetes_token_file": "token", "kubernetes_ca_file": "/etc/ca.crt"}, tmp_path / "node.toml")
    assert found.kubernetes_token_file == tmp_path / "token"
    assert found.kubernetes_ca_file == Path("/etc/ca.crt")


@pytest.mark.parametrize("server", ["ftp://host", "https://", "https://host/path", "http://10.0.0.1:8080"])
def test_a_server_that_cannot_be_meant_or_would_see_the_token_is_refused(server: str) -> None:
    with pytest.raises(Refused) as caught:
        access(server, None, None)
    assert caught.value.code == "runtime.kubernetes"


def test_a_pod_of_the_cluster_needs_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Refused) as caught:
        access("", None, None)
    assert "kubernetes_server" in caught.value.hint
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    found = access("", None, None)
    assert found.server == "https://[fd00::1]:6443"
    assert str(found.token_file).endswith("serviceaccount/token")


def test_a_token_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    found = access(SERVER, file, None)
    with pytest.raises(Refused):
        found.token()
    for token in ("first", "second"):
        file.write_text(token + "\n")
        assert found.token() == token


async def test_a_survey_tells_of_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    server = f"http://127.0.0.1:{free_port()}"
    async with aclosing(open_runtime(a_config(kubernetes_server=server), tmp_path)) as runtime:
        report = await survey.promises("kubernetes", runtime)
    assert not report.usable
    assert server.removeprefix("http://") in report.missing
