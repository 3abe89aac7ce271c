"""What supervisors and Prometheus hear of a provider's node."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from tests.support.network import PATIENCE_S
from tests.support.small_networks import Asked, network

from fondaco.node import clock, health
from fondaco.protocol.errors import Unreachable
from fondaco.protocol.scalars import Millis
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.port import Workload


async def samples(one: Asked) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    text = (await one.client.get("/metrics")).text
    return {
        (sample.name, *sample.labels.values()): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("fondaco_provider_")
    }


async def unhealthy(one: Asked) -> dict[str, Any]:
    answer = await one.client.get("/health")
    assert answer.status_code == 503
    found: dict[str, Any] = answer.json()
    return found


async def test_a_provider_is_healthy_once_it_answers_orders_and_its_metrics_are_there(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1, providers=1) as (validator, provider):
        with trio.fail_after(4 * PATIENCE_S):
            while (answer := await provider.client.get("/health")).status_code != 200:
                assert "provider: is not registered yet" in answer.json()["message"]
                await trio.sleep(0.05)
        told = (await provider.get("/health"))["parts"]
        assert set(told) == {"chain", "peers", "disk", "provider", "runtime"}
        assert told["runtime"] == "0 workloads"
        assert set((await validator.get("/health"))["parts"]) == {"chain", "peers", "disk"}
        found = await samples(provider)
        assert found["fondaco_provider_leases", "running"] == 0
        assert found["fondaco_provider_reservations", "let"] == 0
        assert found["fondaco_provider_utilisation_ratio", "cpu"] == 0
        assert found["fondaco_provider_bids_total",] == 0
        assert await samples(validator) == {}


async def test_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(tmp_path, validators=2) as (one, _):
        assert (await one.get("/health"))["parts"]["peers"] == "1 connected"
        real = clock.now
        monkeypatch.setattr(clock, "now", lambda: Millis(real() + 3_600_000))
        found = await unhealthy(one)
        assert found["code"] == "node.unhealthy"
        assert found["message"].startswith("chain: block ")
        assert "peers" not in found["message"]
        monkeypatch.undo()
        monkeypatch.setattr(health, "DISK_FREE_BYTES", 2**62)
        assert (await unhealthy(one))["message"].startswith("disk: ")


class Away(EmbeddedRuntime):
    """Whose service is gone, or says nothing."""

    silent = False

    async def list(self) -> tuple[Workload, ...]:
        if self.silent:
            await trio.sleep_forever()
        raise Unreachable("runtime.podman", "nobody answers")


async def test_a_runtime_that_is_away_or_silent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(tmp_path, validators=1, providers=1) as (_, provider):
        with trio.fail_after(4 * PATIENCE_S):
            await provider.node.ready.wait()
        assert provider.node.provider is not None
        agent = copy.copy(provider.node.provider.agent)  # the provider's own goes on as it is
        agent.runtime = away = Away(tmp_path / "away", [])
        provider.node.provider = replace(provider.node.provider, agent=agent)
        assert (await unhealthy(provider))["message"] == "runtime: nobody answers [runtime.podman]"
        away.silent = True
        monkeypatch.setattr(health, "RUNTIME_TIMEOUT_S", 0.05)
        assert "runtime: no answer" in (await unhealthy(provider))["message"]
