"""From a provider's configuration to what its bid engine works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fondaco.node.price_history import MarketHistory
from fondaco.node.pricing_program import PricingProgram
from fondaco.node.provider_config import MachineConfig, ProviderConfig
from fondaco.protocol import addresses, limits, matching
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import MicroCredits, Millis, PublicKey
from fondaco.provider.bids import AgentConfig
from fondaco.provider.capacity import Load, Node
from fondaco.provider.earnings import Sweep
from fondaco.provider.eligibility import Profile
from fondaco.provider.policy import AMOUNTS, Policy
from fondaco.provider.pricing import (
    EPHEMERAL,
    Bounded,
    LinearScale,
    MarketFollowing,
    Pricing,
    Program,
    UtilisationCurve,
)
from fondaco.provider.pricing.linear import ANY_MODEL
from fondaco.provider.undercut import Undercut
from fondaco.provider.workloads import RAM_CLASS

MACHINES = 256
EGRESS = "capabilities/egress"
"""An attribute: what workloads reach of the world."""
RUNTIMES = ("embedded", "podman", "docker", "kubernetes")
WITHDRAW_MS = 7 * 24 * 3_600_000
STRATEGIES = ("linear", "market", "program")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the agent is configured with, and what has to run beside it."""

    agent: AgentConfig
    history: MarketHistory | None
    """Where prices follow the market."""


def settings_of(
    config: ProviderConfig, *, name: str, database: Path, peer: str = "", addresses_: tuple[str, ...] = ()
) -> Settings:
    """`name`: of the one machine, where none are listed; `database`: the market's.

    Raises `Refused` `config.field`.
    """
    scale, history = _list(config), None
    strategy: Pricing = scale
    if config.runtime not in RUNTIMES:
        raise _wrong(f"runtime is one of {', '.join(RUNTIMES)}, not {config.runtime!r}")
    if config.pricing not in STRATEGIES:
        raise _wrong(f"pricing is one of {', '.join(STRATEGIES)}, not {config.pricing!r}")
    if config.pricing == "market":
        if not 1 <= config.market_percent <= 100 or config.market_days < 1 or config.market_least < 1:
            raise _wrong("market_percent is 1..100, market_days and market_least are 1 or more")
        history = MarketHistory(database, scale, config.market_days)
        strategy = MarketFollowing(
            scale=scale, history=history, percent=config.market_percent, least=config.market_least
        )
    if config.pricing == "program":
        strategy = Program()
    if config.utilisation_curve:
        strategy = UtilisationCurve(base=strategy, points=config.utilisation_curve)
    pricing = _bounded(config, strategy, scale)
    agent = AgentConfig(
        nodes=machines(config, name),
        pricing=pricing,
        listed=None if config.pricing == "program" else scale,
        undercut=_undercut(config, pricing),
        peer=peer,
        addresses=addresses_,
        profile=Profile(
            attributes=attributes(config),
            wanted=_attributes(config.require_attributes.items()),
            tee=frozenset(config.tee),
        ),
        bid_life_ms=Millis(_within("bid_life_ms", config.bid_life_ms, 1_000, limits.BID_LIFE_MS)),
        reclamation_window_ms=_window(config),
        withdraw_interval_ms=Millis(_within("withdraw_every_ms", config.withdraw_every_ms, 1_000, WITHDRAW_MS)),
        sweep=_sweep(config),
        reservations_per_tenant=_within(
            "reservations_per_tenant", config.reservations_per_tenant, 1, limits.RESERVATIONS
        ),
        leases_per_tenant=_within("leases_per_tenant", config.leases_per_tenant, 1, limits.RESERVATIONS),
        leases=_within("leases", config.leases, 0, limits.RESERVATIONS),
        policy=policy(config),
        program=_program(config),
    )
    return Settings(agent=agent, history=history)


def attributes(config: ProviderConfig) -> tuple[Attribute, ...]:
    """As they are registered: what the operator says, and what follows from the settings.  Raises `Refused`."""
    if EGRESS in config.attributes:
        raise _wrong(f"{EGRESS} is no attribute to be claimed: set egress")
    return _attributes({**_capabilities(config), **config.attributes}.items())


def _capabilities(config: ProviderConfig) -> dict[str, str]:
    """Classes of volumes, models of GPUs and what of the world is reached, in the words that SDL files use."""
    found = {EGRESS: "public"} if config.egress == "public" else {}
    if not any(name.startswith(matching.STORAGE_CAPABILITY) for name in config.attributes):  # numbers must not mix
        persistent = sorted({name for one in config.machines for name in one.storage_classes})
        for number, name in enumerate([*persistent, RAM_CLASS], 1):
            found[f"{matching.STORAGE_CAPABILITY}{number}/class"] = name
            found[f"{matching.STORAGE_CAPABILITY}{number}/persistent"] = str(name != RAM_CLASS).lower()
    listed = [config.gpu_models, *(one.gpu_models for one in config.machines)]
    for name in sorted({name for models in listed for name in models}):
        model = name if name.startswith("vendor/") else f"vendor/nvidia/model/{name}"
        found[f"{matching.GPU_CAPABILITY}{model}"] = "true"
    return found


def _attributes(pairs: object) -> tuple[Attribute, ...]:
    return tuple(Attribute(key=key, value=value) for key, value in sorted(pairs))  # type: ignore[call-overload]


def machines(config: ProviderConfig, name: str) -> tuple[Node, ...]:
    """Raises `Refused` `config.field`."""
    listed = config.machines or (
        MachineConfig(
            name=name,
            cpu_milli=config.cpu_milli,
            memory_bytes=config.memory_bytes,
            storage_bytes=config.storage_bytes,
            gpu_models=config.gpu_models,
        ),
    )
    if len(listed) > MACHINES or len({one.name for one in listed}) != len(listed):
        raise _wrong(f"machines are {MACHINES} at most, each with a name of its own")
    return tuple(map(_machine, listed))


def _machine(one: MachineConfig) -> Node:
    amounts = (one.cpu_milli, one.memory_bytes, one.storage_bytes)
    if any(amount < 0 for amount in (*amounts, *one.storage_classes.values(), *one.gpu_models.values())):
        raise _wrong(f"machine {one.name!r} has less than nothing of something")
    if "ram" in one.storage_classes:
        raise _wrong(f"machine {one.name!r}: volumes of class ram live in its memory")
    gpus = {}
    for name, units in one.gpu_models.items():
        model = matching.gpu_model(name if name.startswith("vendor/") else f"vendor/nvidia/model/{name}")
        if model is None or model.model == matching.ANY:
            raise _wrong(f"{name!r} is no GPU model; write h100, or h100/ram/80Gi/interface/sxm")
        gpus[model] = units
    storage = {EPHEMERAL: one.storage_bytes, **one.storage_classes}
    capacity = Load(cpu_milli=one.cpu_milli, memory_bytes=one.memory_bytes, storage_bytes=storage, gpus=gpus)
    return Node(name=one.name, capacity=capacity)


def _list(config: ProviderConfig) -> LinearScale:
    prices = (config.price_cpu, config.price_memory, config.price_storage, config.price_endpoint, config.price_ip)
    tables = (config.price_storage_class, config.price_gpu)
    if any(price < 0 for price in (*prices, *(one for table in tables for one in table.values()))):
        raise _wrong("no price is below 0")
    return LinearScale(
        per_cpu=config.price_cpu,
        per_memory_gib=config.price_memory,
        per_storage_gib={EPHEMERAL: config.price_storage, **config.price_storage_class},
        per_gpu=dict(config.price_gpu),
        per_endpoint=config.price_endpoint,
        per_ip=config.price_ip,
        minimum=max(1, config.price_minimum),
    )


def _cost(config: ProviderConfig) -> LinearScale | None:
    plain = (config.cost_cpu, config.cost_memory, config.cost_storage, config.cost_endpoint, config.cost_ip)
    if any(cost < 0 for cost in (*plain, *config.cost_storage_class.values(), *config.cost_gpu.values())):
        raise _wrong("no cost is below 0")
    if not any(plain) and not config.cost_gpu and not config.cost_storage_class:
        return None
    # A class or model without a cost of its own costs nothing known; that it has a price is the strategy's affair.
    classes = [*config.price_storage_class, *(name for one in config.machines for name in one.storage_classes)]
    return LinearScale(
        per_cpu=config.cost_cpu,
        per_memory_gib=config.cost_memory,
        per_storage_gib=dict.fromkeys(classes, 0) | {EPHEMERAL: config.cost_storage, **config.cost_storage_class},
        per_gpu={ANY_MODEL: 0, **config.cost_gpu},
        per_endpoint=config.cost_endpoint,
        per_ip=config.cost_ip,
    )


def _bounded(config: ProviderConfig, strategy: Pricing, scale: LinearScale) -> Bounded:
    if config.price_ceiling_percent < 0 or config.price_step < 1:
        raise _wrong("price_ceiling_percent is 0 or more, price_step 1 or more")
    return Bounded(
        strategy=strategy,
        cost=_cost(config),
        ceiling=scale if config.price_ceiling_percent else None,
        ceiling_percent=config.price_ceiling_percent,
        step=config.price_step,
    )


def _undercut(config: ProviderConfig, pricing: Bounded) -> Undercut | None:
    if not config.undercut_permille:
        return None
    if pricing.cost is None:
        raise _wrong("undercut_permille needs costs to stop at: set cost_cpu and the others")
    return Undercut(
        permille=_within("undercut_permille", config.undercut_permille, 1, 500),
        times=_within("undercut_times", config.undercut_times, 1, limits.BID_SERIALS - 1),
        floor=pricing.floor,
    )


def _program(config: ProviderConfig) -> PricingProgram | None:
    if config.pricing != "program":
        return None
    if not config.pricing_program:
        raise _wrong("pricing is `program`, and there is no pricing_program")
    timeout_ms = _within("pricing_timeout_ms", config.pricing_timeout_ms, 10, 60_000)
    return PricingProgram(config.pricing_program, timeout_ms=timeout_ms)


def policy(config: ProviderConfig) -> Policy:
    """Raises `Refused` `config.field`."""
    for table in (config.serve_least, config.serve_most):
        for name, bound in table.items():
            if name not in AMOUNTS or bound < 0:
                raise _wrong(f"serve_least and serve_most bound {', '.join(AMOUNTS)}, not {name!r} by {bound}")
    return Policy(
        allow=frozenset(map(_key, config.allow_tenants)),
        deny=frozenset(map(_key, config.deny_tenants)),
        least=tuple(sorted(config.serve_least.items())),
        most=tuple(sorted(config.serve_most.items())),
        regions=frozenset(config.serve_regions),
        min_deposit=config.min_deposit,
        min_runway_ms=config.min_runway_ms,
    )


def _sweep(config: ProviderConfig) -> Sweep | None:
    if config.sweep_keep < 0 or config.sweep_least < 0:
        raise _wrong("sweep_keep and sweep_least are 0 or more")
    if not config.sweep_to:
        return None
    keep, least = MicroCredits(config.sweep_keep), MicroCredits(config.sweep_least)
    return Sweep(to=_key(config.sweep_to), keep=keep, least=least)


def _key(address: str) -> PublicKey:
    try:
        return addresses.decode(address)
    except FondacoError as error:
        raise _wrong(f"{address!r} is no address: {error.message}") from None


def _window(config: ProviderConfig) -> Millis:
    low, high = limits.RECLAMATION_WINDOW_MS
    if config.reclamation_window_ms:
        _within("reclamation_window_ms", config.reclamation_window_ms, low, high)
    return Millis(config.reclamation_window_ms)


def _within(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise _wrong(f"{name} is {low}..{high}, not {value}")
    return value


def _wrong(message: str) -> Refused:
    return Refused("config.field", f"provider: {message}")
