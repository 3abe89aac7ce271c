"""An SDL file once decoded: what it says, where it says it, and nothing yet of what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fondaco.protocol.manifest.model import Credentials, HttpOptions
from fondaco.protocol.resources import Attribute
from fondaco.protocol.sdl.nodes import Node
from fondaco.protocol.sdl.problems import Path


@dataclass(frozen=True, slots=True)
class Place:
    """A node and the way to it, for the problems found later."""

    node: Node
    path: Path


@dataclass(slots=True, kw_only=True)
class To:
    """Who may reach an exposed port."""

    at: Place
    service: str
    is_global: bool
    ip: str


@dataclass(slots=True, kw_only=True)
class ExposeEntry:
    at: Place
    port: int
    external_port: int
    proto: str
    to: list[To]
    accept: tuple[str, ...] | None
    http_options: HttpOptions
    """As written: zeros stand for defaults."""


@dataclass(slots=True, kw_only=True)
class Mount:
    at: Place
    mount: str
    read_only: bool


@dataclass(slots=True, kw_only=True)
class Params:
    storage: dict[str, Mount]
    permissions: tuple[str, ...] | None
    tee: str


@dataclass(slots=True, kw_only=True)
class ServiceEntry:
    at: Place
    image: str
    command: tuple[str, ...] | None
    args: tuple[str, ...] | None
    env: tuple[str, ...] | None = field(repr=False)
    expose: list[ExposeEntry]
    params: Params | None
    credentials: Credentials | None


@dataclass(slots=True, kw_only=True)
class VolumeEntry:
    at: Place
    name: str
    size_bytes: int
    attributes: tuple[Attribute, ...]

    def get(self, key: str) -> str:
        """An attribute's value; empty if it has none."""
        return next((attribute.value for attribute in self.attributes if attribute.key == key), "")


@dataclass(slots=True, kw_only=True)
class Compute:
    """A compute profile; a quantity is None where the file does not mention it."""

    at: Place
    has_resources: bool = False
    cpu_milli: int | None = None
    cpu_attributes: tuple[Attribute, ...] = ()
    memory_bytes: int | None = None
    gpu_units: int = 0
    gpu_attributes: tuple[Attribute, ...] = ()
    volumes: list[VolumeEntry] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Price:
    """For one replica."""

    at: Place
    denom: str
    scaled: int
    """Times 10^18."""
    hourly: bool
    """Our own `per: hour`; otherwise per pricing period of six seconds."""


@dataclass(slots=True, kw_only=True)
class PlacementEntry:
    at: Place
    attributes: tuple[Attribute, ...]
    all_of: tuple[str, ...] | None
    any_of: tuple[str, ...] | None
    pricing: dict[str, Price]


@dataclass(slots=True, kw_only=True)
class Deploy:
    at: Place
    profile: str
    count: int


@dataclass(slots=True, kw_only=True)
class EndpointEntry:
    at: Place
    kind: str


@dataclass(slots=True, kw_only=True)
class Document:
    at: Place
    pools_units: bool = False
    """Version 2.1: services that share a profile within a placement share a resource unit."""
    services: dict[str, ServiceEntry] = field(default_factory=dict)
    compute: dict[str, Compute] = field(default_factory=dict)
    placement: dict[str, PlacementEntry] = field(default_factory=dict)
    deployment: dict[str, dict[str, Deploy]] = field(default_factory=dict)
    endpoints: dict[str, EndpointEntry] = field(default_factory=dict)
    reclamation_ms: int = 0
