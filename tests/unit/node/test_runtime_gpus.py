"""GPUs are offered only where the runtime gives them."""

from __future__ import annotations

from typing import Any

import pytest

from fondaco.node.provider_config import MachineConfig, ProviderConfig
from fondaco.node.runtime_settings import check_gpus
from fondaco.protocol.errors import Refused

MACHINE = MachineConfig(name="a", cpu_milli=1, memory_bytes=1, gpu_models={"h100": 1})


@pytest.mark.parametrize("offer", [{"gpu_models": {"h100": 1}}, {"machines": (MACHINE,)}])
@pytest.mark.parametrize("runtime", ["embedded", "podman", "docker"])
def test_a_provider_offers_no_gpu_that_nobody_would_get(runtime: str, offer: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        check_gpus(ProviderConfig(runtime=runtime, **offer))
    assert refused.value.code == "runtime.gpu"
    check_gpus(ProviderConfig(runtime="kubernetes", **offer))
    check_gpus(ProviderConfig(runtime=runtime, gpu_models={"h100": 0}))
