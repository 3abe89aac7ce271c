"""What a tenant hands to its provider once a lease exists: which images run, how, and who may reach them.

The fields and their meaning are Akash's (chain-sdk, `manifest/v2beta3`), because the version hash of an SDL file
must come out the same.  `None` and an empty tuple differ where the JSON form has both `null` and `[]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fondaco.protocol.resources import Endpoint, EndpointKind, Resources

TCP = "TCP"
UDP = "UDP"
HTTP_PORT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How the ingress treats one shared HTTP endpoint; times in milliseconds, sizes in bytes."""

    max_body_size: int = 1_048_576
    read_timeout: int = 60_000
    send_timeout: int = 60_000
    next_tries: int = 3
    next_timeout: int = 0
    next_cases: tuple[str, ...] = ("error", "timeout")
    proxy_buffer_size: int = 0
    """0 leaves it to the provider, and keeps the field out of the JSON form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose:
    """One way of reaching one port of a service."""

    port: int
    external_port: int = 0
    """What the outside sees; 0 means the same as `port`."""
    proto: str = TCP
    service: str = ""
    """Which other service may reach it; empty where it is open to all or to none."""
    is_global: bool = False
    hosts: tuple[str, ...] | None = None
    http_options: HttpOptions = field(default_factory=HttpOptions)
    ip: str = ""
    """The leased address it is reached under, by its name in the SDL."""
    endpoint_sequence_number: int = 0

    @property
    def outside_port(self) -> int:
        return self.external_port or self.port

    @property
    def is_ingress(self) -> bool:
        """Whether it shares the provider's HTTP ingress rather than taking a port of its own."""
        return self.proto == TCP and self.is_global and self.outside_port == HTTP_PORT

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it takes of the leased endpoints, by sequence number."""
        if not self.is_global:
            return ()
        kind = EndpointKind.SHARED_HTTP if self.is_ingress else EndpointKind.RANDOM_PORT
        plain = Endpoint(kind=kind, sequence_number=0)
        if not self.ip:
            return (plain,)
        leased = Endpoint(kind=EndpointKind.LEASED_IP, sequence_number=self.endpoint_sequence_number)
        # A stable sort with the address first: with number 0 it keeps its place ahead of the plain endpoint.
        return tuple(sorted((leased, plain), key=lambda endpoint: endpoint.sequence_number))


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """Where a service sees one of its volumes."""

    name: str
    mount: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tee:
    """The confidential computing a service insists on: `cpu` or `cpu-gpu`."""

    kind: str
    attestation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What of its own lease the workload may read."""

    read: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParams:
    storage: tuple[VolumeMount, ...] | None
    permissions: Permissions | None
    tee: Tee | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """For a private image registry.  They reach the provider of their own group and nobody else."""

    host: str
    email: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One image, run `count` times."""

    name: str
    image: str
    command: tuple[str, ...] | None
    args: tuple[str, ...] | None
    env: tuple[str, ...] | None = field(repr=False)
    """`NAME=value`."""
    resource_id: int
    """The `ResourceUnit.id` of the leased group it runs on."""
    resources: Resources
    """What each replica gets; the endpoints are this service's alone."""
    count: int
    expose: tuple[Expose, ...]
    params: ServiceParams | None
    credentials: Credentials | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestGroup:
    """Everything that runs at one provider."""

    name: str
    services: tuple[Service, ...]


Manifest = tuple[ManifestGroup, ...]
"""Ordered by group name; services within a group are ordered by name."""


def endpoints_of(expose: tuple[Expose, ...]) -> tuple[Endpoint, ...]:
    """All endpoints a list of exposes takes, in its order."""
    return tuple(endpoint for one in expose for endpoint in one.endpoints)
