"""What a machine has to offer, and the configuration that is made of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fondaco.node import config, machine
from fondaco.node.bid_trial import settings
from fondaco.protocol.matching import gpu_model

NODE = 'name = "n"\nlisten = "127.0.0.1:1"\n'


@pytest.mark.parametrize(
    ("line", "model"),
    [
        ("NVIDIA H100 80GB HBM3, 81559", "h100/ram/80Gi/interface/sxm"),
        ("NVIDIA A100-SXM4-80GB, 81920", "a100/ram/80Gi/interface/sxm"),
        ("NVIDIA A100-PCIE-40GB, 40960", "a100/ram/40Gi/interface/pcie"),
        ("Tesla T4, 15360", "t4/ram/15Gi"),
        ("NVIDIA GeForce RTX 4090, 24564", "rtx4090/ram/24Gi"),
        ("NVIDIA GeForce RTX 3080 Ti, 12288", "rtx3080ti/ram/12Gi"),
        ("something else, 5", ""),
        ("NVIDIA H100", ""),
        ("NVIDIA H100, [N/A]", ""),
    ],
)
def test_a_gpu_is_called_as_orders_call_it(line: str, model: str) -> None:
    assert machine.model_of(line) == model
    assert not model or gpu_model(f"vendor/nvidia/model/{model}") is not None


def test_what_is_there_is_seen_and_some_is_kept(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia-uvm", "nvidiactl"):
        (tmp_path / name).touch()
    query = ("printf", "NVIDIA H100 80GB HBM3, 81559\\nNVIDIA H100 80GB HBM3, 81559\\n")
    found = machine.look(tmp_path, devices=tmp_path, query=query)
    assert found.cpu_milli == len(os.sched_getaffinity(0)) * 1_000
    assert 0 < found.memory_bytes < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.gpus == {"h100/ram/80Gi/interface/sxm": 2}
    assert found.unknown_gpus == 1
    for nothing in (("false",), ("/nonexistent/tool",)):
        assert machine.look(tmp_path, devices=tmp_path, query=nothing).gpus == {}


@pytest.mark.parametrize(("gpus", "unknown"), [({}, 0), ({"h100/ram/80Gi/interface/sxm": 2, "t4/ram/15Gi": 1}, 1)])
def test_the_configuration_made_of_it_is_good_and_lets_no_gpu_without_a_price(
    tmp_path: Path, gpus: dict[str, int], unknown: int
) -> None:
    seen = machine.Machine(
        cpu_milli=4_000, memory_bytes=2**33, storage_bytes=2**35, gpus=gpus, unknown_gpus=unknown
    )
    (tmp_path / "node.toml").write_text(NODE + machine.template(seen), encoding="utf-8")
    node = config.load(tmp_path)
    assert node.provider is not None
    assert node.provider.gpu_models == {}, "the runtime that it begins with gives none"
    text = (tmp_path / "node.toml").read_text(encoding="utf-8")
    listed = next(line for line in text.splitlines() if line.startswith("# gpu_models = "))
    (tmp_path / "node.toml").write_text(text.replace(listed, listed.removeprefix("# ")), encoding="utf-8")
    node = config.load(tmp_path)
    assert node.provider is not None
    assert node.provider.gpu_models == gpus
    assert node.provider.price_gpu == {}
    told = settings(node).agent
    assert told.nodes[0].capacity.cpu_milli == 4_000
    assert sum("capabilities/gpu" in one.key for one in told.profile.attributes) == len(gpus)
    assert ("do not say what they are" in (tmp_path / "node.toml").read_text()) == bool(unknown)
