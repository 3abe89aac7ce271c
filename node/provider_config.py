"""The `[provider]` of a `node.toml`: what a provider has, asks for it, and whom it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineConfig:
    """One of `[[provider.machines]]`."""

    name: str
    """By which reservations know it: keep it."""
    cpu_milli: int
    """Thousandths of a CPU."""
    memory_bytes: int
    """Memory to let."""
    storage_bytes: int = 0
    """Ephemeral."""
    storage_classes: Mapping[str, int] = field(default_factory=dict)
    """Class -> bytes."""
    gpu_models: Mapping[str, int] = field(default_factory=dict)
    """`h100`, `h100/ram/80Gi/interface/sxm`, `vendor/amd/model/mi300x` -> units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """What a provider offers and what it asks for it. Amounts in whole units; prices in ucredit an hour."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    """What it says of itself on the ledger: region, capabilities and the rest."""
    cpu_milli: int = 4_000
    """This and the next are of the one machine, where no `machines` are listed."""
    memory_bytes: int = 4 * 2**30
    """Memory to let."""
    storage_bytes: int = 32 * 2**30
    """Disk to let, as ephemeral storage."""
    gpu_models: Mapping[str, int] = field(default_factory=dict)
    """Model -> units."""
    machines: tuple[MachineConfig, ...] = ()
    """One table each; what stands above is then not looked at."""
    tee: tuple[str, ...] = ()
    """Kinds of confidential computing it can prove."""

    pricing: str = "linear"
    """`linear`, `market` or `program`."""
    price_cpu: int = 10_000
    """For a whole CPU."""
    price_memory: int = 4_000
    """For a GiB."""
    price_storage: int = 100
    """For a GiB."""
    price_storage_class: Mapping[str, int] = field(default_factory=dict)
    """Class -> for a GiB."""
    price_gpu: Mapping[str, int] = field(default_factory=dict)
    """Model -> for one; `*` for any other."""
    price_endpoint: int = 0
    """For a port or a host name."""
    price_ip: int = 0
    """For a leased address."""
    price_minimum: int = 1
    """For a whole group."""
    utilisation_curve: tuple[tuple[int, int], ...] = ()
    """[permille in use, permille of the price] of each resource; empty: the price does not depend on it."""
    market_percent: int = 50
    """Of recent leases that were no dearer than what is asked here."""
    market_days: int = 14
    """So far back leases are looked at."""
    market_least: int = 20
    """So many leases make a market price; with fewer the list's stands."""
    pricing_program: tuple[str, ...] = ()
    """Command and arguments."""
    pricing_timeout_ms: int = 2_000
    """Then the program is killed and the order declined."""
    cost_cpu: int = 0
    """For a CPU. Never is less asked than this and the next come to; all 0: no such limit."""
    cost_memory: int = 0
    """For a GiB; so the next."""
    cost_storage: int = 0
    """Ephemeral."""
    cost_storage_class: Mapping[str, int] = field(default_factory=dict)
    """Class -> for a GiB."""
    cost_gpu: Mapping[str, int] = field(default_factory=dict)
    """Model -> for one."""
    cost_endpoint: int = 0
    """For a port or a host name."""
    cost_ip: int = 0
    """For a leased address."""
    price_ceiling_percent: int = 0
    """Of the list's price that is never passed; 0: none."""
    price_step: int = 1
    """Prices are rounded up to a multiple of it."""
    undercut_permille: int = 0
    """So much lower than a competitor's bid one's own is made, down to the cost; 0: bids stand as they are."""
    undercut_times: int = limits.BID_SERIALS - 1
    """At most, for one order."""

    bid_life_ms: int = 60_000
    """How long a bid binds, in block time."""
    reclamation_window_ms: int = 0
    """Notice given before resources are taken back; 0 promises none."""
    reservations_per_tenant: int = limits.RESERVATIONS_PER_TENANT
    """Bids that wait for the word of one tenant, at most."""
    leases_per_tenant: int = limits.RESERVATIONS
    """Leases and bids of one tenant, at most."""
    leases: int = limits.RESERVATIONS
    """In all."""
    allow_tenants: tuple[str, ...] = ()
    """Addresses; empty: everybody."""
    deny_tenants: tuple[str, ...] = ()
    """Addresses; this goes before the former."""
    require_attributes: Mapping[str, str] = field(default_factory=dict)
    """An order's placement must name these."""
    serve_regions: tuple[str, ...] = ()
    """An order that names a region must name one of these."""
    serve_least: Mapping[str, int] = field(default_factory=dict)
    """cpu_milli, memory_bytes, gpu_units, storage_bytes -> the least a group must ask for."""
    serve_most: Mapping[str, int] = field(default_factory=dict)
    """Likewise the most."""
    min_deposit: int = 0
    """Ucredit."""
    min_runway_ms: int = 0
    """So long an order's deposit must last at its highest price."""

    bond: int = 1_000_000
    """Stake behind the provider, in ustake."""
    withdraw_every_ms: int = 600_000
    """How often what was earned is taken."""
    sweep_to: str = ""
    """Address that earnings are moved to after each withdrawal; empty: they stay in the provider's account."""
    sweep_keep: int = 5_000_000
    """Stays in the provider's account, for fees. Ucredit, as the next."""
    sweep_least: int = 1_000_000
    """Less than this is not moved."""
    stop_workloads: bool = False
    """Stop every workload when the node is stopped; they start again with it. Else they outlive it."""
    images: Path | None = None
    """An OCI image layout to take images from, before any registry is asked."""
    allow_registries: tuple[str, ...] = ()
    """Images are pulled from these: `host`, `host:port`, `host/path`, `*.domain`. Empty: from any."""
    deny_registries: tuple[str, ...] = ()
    """Not from these, nor from any for `*`; this goes before the former."""
    private_registries: tuple[str, ...] = ()
    """Hosts that may have private addresses; tenants' images never lead the provider to others."""
    insecure_registries: tuple[str, ...] = ()
    """Hosts spoken to without TLS. Those on this machine always are."""
    registry_credentials: Path | None = None
    """A file, readable by its owner only, of tables by host with `username` and `password`."""
    image_cache_bytes: int = 64 * 2**30
    """Disk for images and what was downloaded for them; what was used longest ago is removed first."""
    runtime: str = "embedded"
    """What runs workloads: `embedded` (bubblewrap or crun), `podman`, `docker` or `kubernetes`."""
    podman_socket: Path | None = None
    """Where podman's service listens, unless that is where it does by itself."""
    docker_socket: Path | None = None
    """Where docker's daemon listens, if not on `/var/run/docker.sock`."""
    egress: str = "none"
    """What workloads reach of the world: `none`, or `public` addresses, by pasta."""
    dns: tuple[str, ...] = ("9.9.9.9", "1.1.1.1")
    """Resolvers of workloads that reach public addresses, and themselves at such addresses."""
    kubernetes_server: str = ""
    """`https://host:6443`; empty: that of the cluster whose pod this is."""
    kubernetes_token_file: Path | None = None
    """Who asks it; where no server is named, the pod's own account."""
    kubernetes_ca_file: Path | None = None
    """Who vouches for the server, if not one of the system's authorities."""
    kubernetes_users: str = "namespaced"
    """`namespaced`: any image runs, in a user namespace; `nonroot`: those that name another user, by number."""
    kubernetes_runtime_class: str = ""
    """Of gVisor, Kata or the like."""
    kubernetes_storage_classes: Mapping[str, str] = field(default_factory=dict)
    """Class in orders -> StorageClass, where their names differ."""
    kubernetes_gpu_nodes: Mapping[str, str] = field(default_factory=dict)
    """Model -> `label=value` of the nodes that have it; needed where nodes have different ones."""
    kubernetes_probe_image: str = "docker.io/library/busybox:1.37"
    """Busybox, to try the cluster with at every start."""


def read(values: object, path: Path) -> ProviderConfig:
    """From the table of the file at `path`; a relative path in it is meant from there.

    Raises `Refused` `config.field`.
    """
    if type(values) is not dict:
        raise Refused("config.field", f"{path}: provider must be a table, not {values!r}")
    found: ProviderConfig = _build(ProviderConfig, values, f"{path}: provider")
    paths = [one.name for one in dataclasses.fields(found) if one.type == "Path | None"]
    given = {name: getattr(found, name) for name in paths}
    meant = {name: path.parent / value for name, value in given.items() if value is not None}
    return dataclasses.replace(found, **meant)


def dump(config: ProviderConfig, toml: Callable[[object], str]) -> Iterator[str]:
    """The lines of the table, each value written by `toml`."""
    for one in dataclasses.fields(config):
        value = getattr(config, one.name)
        if one.name == "machines":
            value = [dataclasses.asdict(machine) for machine in value]
        if value is not None:
            yield f"{one.name} = {toml(value)}"


def _build(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    known = {one.name: one for one in dataclasses.fields(kind)}
    given = {}
    for name, value in values.items():
        if name not in known:
            raise Refused("config.field", f"{where}: unknown key {name!r}")
        read_value = _READERS[str(known[name].type)]
        try:
            given[name] = read_value(value, f"{where}.{name}")
        except TypeError as error:
            raise Refused("config.field", f"{where}: {name} must be {error}, not {value!r}") from None
    try:
        return kind(**given)
    except TypeError as error:
        raise Refused("config.field", f"{where}: {error}") from None


def _exactly(kind: type, called: str) -> Callable[[object, str], Any]:
    def read_value(value: object, where: str) -> Any:
        if type(value) is not kind:
            raise TypeError(called)
        return value

    return read_value


def _table(kind: type, called: str) -> Callable[[object, str], Any]:
    def read_value(value: object, where: str) -> Any:
        if type(value) is not dict or not all(type(one) is kind for one in value.values()):
            raise TypeError(f"a table of {called}")
        return value

    return read_value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if type(value) is not list or not all(type(one) is str for one in value):
        raise TypeError("a list of str")
    return tuple(value)


def _pairs(value: object, where: str) -> tuple[tuple[int, int], ...]:
    if type(value) is not list:
        raise TypeError("a list of pairs of int")
    if not all(type(one) is list and [type(part) for part in one] == [int, int] for one in value):
        raise TypeError("a list of pairs of int")
    return tuple((one[0], one[1]) for one in value)


def _machines(value: object, where: str) -> tuple[MachineConfig, ...]:
    if type(value) is not list or not all(type(one) is dict for one in value):
        raise TypeError("a list of tables")
    return tuple(_build(MachineConfig, one, where) for one in value)


def _path(value: object, where: str) -> Path:
    if type(value) is not str:
        raise TypeError("str")
    return Path(value)


_READERS: dict[str, Callable[[object, str], Any]] = {
    "str": _exactly(str, "str"),
    "int": _exactly(int, "int"),
    "bool": _exactly(bool, "bool"),
    "Mapping[str, str]": _table(str, "str"),
    "Mapping[str, int]": _table(int, "int"),
    "tuple[str, ...]": _texts,
    "tuple[tuple[int, int], ...]": _pairs,
    "tuple[MachineConfig, ...]": _machines,
    "Path | None": _path,
}
"""By annotation."""
