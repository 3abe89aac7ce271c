"""From `[provider]` in `node.toml` to a bid engine, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.workloads import gpu, key, unit, volume

from fondaco.node import config
from fondaco.node.config import ProviderConfig
from fondaco.node.provider_settings import attributes, settings_of
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.matching import GpuModel
from fondaco.protocol.scalars import MicroCredits
from fondaco.provider.bids import AgentConfig
from fondaco.provider.earnings import Sweep
from fondaco.provider.pricing import Bounded, MarketFollowing, Program, UtilisationCurve

BARE = 'name = "n"\nlisten = "127.0.0.1:1"\n[provider]\n'


def agent(**changes: Any) -> AgentConfig:
    return settings_of(ProviderConfig(**changes), name="n", database=Path("none")).agent


def strategy(**changes: Any) -> object:
    pricing = agent(**changes).pricing
    assert isinstance(pricing, Bounded)
    return pricing.strategy


def test_without_a_list_there_is_one_machine() -> None:
    (one,) = agent(cpu_milli=2_000, gpu_models={"h100/ram/80Gi": 2}).nodes
    assert (one.name, one.capacity.cpu_milli) == ("n", 2_000)
    assert one.capacity.gpus == {GpuModel(vendor="nvidia", model="h100", ram="80Gi"): 2}


def test_machines_are_read_from_the_file(tmp_path: Path) -> None:
    text = f"""{BARE}
price_storage_class = {{ beta2 = 300 }}
utilisation_curve = [[0, 900], [1000, 1500]]

[[provider.machines]]
name = "a"
cpu_milli = 8000
memory_bytes = {GIB}
storage_classes = {{ beta2 = {GIB} }}

[[provider.machines]]
name = "b"
cpu_milli = 1000
memory_bytes = {GIB}
gpu_models = {{ "vendor/amd/model/mi300x" = 1 }}
"""
    (tmp_path / "node.toml").write_text(text, encoding="utf-8")
    provider = config.load(tmp_path).provider
    assert provider is not None
    told = settings_of(provider, name="n", database=Path("none")).agent
    assert [one.name for one in told.nodes] == ["a", "b"]
    assert told.nodes[0].capacity.storage_bytes == {"": 0, "beta2": GIB}
    assert told.nodes[1].capacity.gpus == {GpuModel(vendor="amd", model="mi300x"): 1}
    again = config.NodeConfig(home=tmp_path, name="n", listen="127.0.0.1:1", provider=provider)
    (tmp_path / "node.toml").write_text(config.dump(again), encoding="utf-8")
    assert config.load(tmp_path) == again


def test_each_strategy_is_made_and_the_curve_lies_on_top() -> None:
    assert isinstance(strategy(pricing="market"), MarketFollowing)
    assert isinstance(strategy(pricing="program", pricing_program=("true",)), Program)
    curve = strategy(pricing="market", utilisation_curve=((0, 1_000),))
    assert isinstance(curve, UtilisationCurve)
    assert isinstance(curve.base, MarketFollowing)
    assert settings_of(ProviderConfig(pricing="market"), name="n", database=Path("none")).history is not None


def test_costs_are_a_floor_and_a_gpu_without_a_price_is_refused_all_the_same() -> None:
    pricing = agent(
        cost_cpu=20_000, cost_gpu={"h100": 9_000_000}, price_gpu={"h100/80Gi": 1}, price_storage_class={"beta2": 5}
    ).pricing
    plain = unit(volumes=(volume(kind="beta2"),))
    assert pricing.quote((plain,)).price_per_hour == 20_000 + 4_000 + 5
    assert pricing.quote((unit(gpus=1, models=gpu("h100/ram/80Gi"), volumes=()),)).price_per_hour == 9_024_000
    with pytest.raises(Refused, match="no price for the GPU"):
        pricing.quote((unit(gpus=1, models=gpu("t4")),))


def test_whom_a_provider_serves_is_read() -> None:
    told = agent(
        allow_tenants=(addresses.encode(key(1)),),
        serve_least={"gpu_units": 1},
        require_attributes={"tier": "gold"},
        tee=("tdx",),
        leases=3,
        reclamation_window_ms=3_600_000,
    )
    assert told.policy.allow == {key(1)}
    assert told.policy.least == (("gpu_units", 1),)
    assert told.profile.wanted[0].value == "gold"
    assert (told.leases, told.reclamation_window_ms) == (3, 3_600_000)
    assert told.profile.tee == {"tdx"}


def test_what_the_machines_have_is_said_in_the_words_that_sdl_files_ask_with() -> None:
    machine = config.MachineConfig(
        name="a", cpu_milli=1, memory_bytes=1, storage_classes={"beta3": 1, "beta2": 1}, gpu_models={"h100": 1}
    )
    found = {
        one.key: one.value for one in attributes(ProviderConfig(attributes={"host": "x"}, machines=(machine,)))
    }
    assert found == {
        "host": "x",
        "capabilities/gpu/vendor/nvidia/model/h100": "true",
        "capabilities/storage/1/class": "beta2",
        "capabilities/storage/1/persistent": "true",
        "capabilities/storage/2/class": "beta3",
        "capabilities/storage/2/persistent": "true",
        "capabilities/storage/3/class": "ram",
        "capabilities/storage/3/persistent": "false",
    }
    said = {"capabilities/storage/7/class": "beta2"}
    own = attributes(ProviderConfig(attributes=said, machines=(machine,)))
    assert [one.key for one in own if "storage" in one.key] == list(said), (
        "what the operator numbered is left alone"
    )


def test_earnings_stay_unless_an_account_is_named_for_them() -> None:
    assert agent().sweep is None
    assert agent(sweep_to=addresses.encode(key(1)), sweep_keep=7, sweep_least=3).sweep == Sweep(
        to=key(1), keep=MicroCredits(7), least=MicroCredits(3)
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pricing": "guess"}, "pricing is one of"),
        ({"pricing": "market", "market_percent": 0}, "market_percent"),
        ({"pricing": "program"}, "there is no pricing_program"),
        ({"pricing": "program", "pricing_program": ("a",), "pricing_timeout_ms": 1}, "pricing_timeout_ms is 10"),
        ({"price_cpu": -1}, "no price is below 0"),
        ({"cost_gpu": {"h100": -1}}, "no cost is below 0"),
        ({"price_step": 0}, "price_step"),
        ({"utilisation_curve": ((5, 1), (5, 1))}, "rising"),
        ({"gpu_models": {"*": 1}}, "'*' is no GPU model"),
        ({"gpu_models": {"h100": -1}}, "less than nothing"),
        ({"machines": (config.MachineConfig(name="a", cpu_milli=1, memory_bytes=1),) * 2}, "a name of its own"),
        (
            {
                "machines": (
                    config.MachineConfig(name="a", cpu_milli=1, memory_bytes=1, storage_classes={"ram": 1}),
                )
            },
            "live in its memory",
        ),
        ({"serve_most": {"bandwidth": 1}}, "not 'bandwidth'"),
        ({"deny_tenants": ("nobody",)}, "'nobody' is no address"),
        ({"reclamation_window_ms": 5}, "reclamation_window_ms is 3600000"),
        ({"bid_life_ms": 999_999}, "bid_life_ms is 1000..120000"),
        ({"leases_per_tenant": 0}, "leases_per_tenant"),
        ({"withdraw_every_ms": 0}, "withdraw_every_ms is 1000"),
        ({"sweep_to": "nobody"}, "'nobody' is no address"),
        ({"sweep_keep": -1}, "sweep_keep and sweep_least"),
        ({"undercut_permille": 10}, "needs costs"),
        ({"undercut_permille": 10, "cost_cpu": 1, "undercut_times": 6}, "undercut_times is 1..5"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told):
        agent(**changes)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("machines = 5", "a list of tables"),
        ("machines = [{ name = 'a' }]", "missing"),
        ("machines = [{ name = 'a', cpus = 1 }]", "unknown key 'cpus'"),
        ("utilisation_curve = [[1]]", "a list of pairs of int"),
        ("utilisation_curve = 3", "a list of pairs of int"),
        ("allow_tenants = [1]", "a list of str"),
        ("images = 3", "images must be str"),
        ("serve_most = { cpu_milli = true }", "a table of int"),
    ],
)
def test_a_wrong_form_is_told_with_its_place(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "node.toml").write_text(BARE + line + "\n", encoding="utf-8")
    with pytest.raises(Refused, match=told) as caught:
        config.load(tmp_path)
    assert caught.value.code == "config.field"
