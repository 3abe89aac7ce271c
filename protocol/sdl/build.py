"""From a decoded and checked document to the manifest and the group specifications."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.protocol.manifest.model import (
    TCP,
    UDP,
    Credentials,
    Expose,
    HttpOptions,
    ManifestGroup,
    Permissions,
    Service,
    ServiceParams,
    Tee,
    VolumeMount,
    endpoints_of,
)
from fondaco.protocol.resources import Attribute, Endpoint, Resources, Volume
from fondaco.protocol.sdl.check import uses
from fondaco.protocol.sdl.document import Compute, Document, ExposeEntry, Params, Place, Price, ServiceEntry

TEE_ATTRIBUTE = "tee/type"


@dataclass(slots=True, kw_only=True)
class UnitSpec:
    """A resource unit with the price its SDL names, before both become terms of the market."""

    id: int
    resources: Resources
    count: int
    price: Price
    profile: str


@dataclass(slots=True, kw_only=True)
class GroupSpec:
    """A placement with what goes there, still in the words of the SDL."""

    at: Place
    name: str
    attributes: list[Attribute]
    all_of: tuple[str, ...] | None
    any_of: tuple[str, ...] | None
    units: list[UnitSpec]


def build(document: Document) -> tuple[tuple[ManifestGroup, ...], tuple[GroupSpec, ...]]:
    """Groups by name, services within them by name, units numbered from 1."""
    numbers = sequence_numbers(document)
    specs: dict[str, GroupSpec] = {}
    services: dict[str, list[Service]] = {}
    for service_name, placement_name, deploy in uses(document):
        entry = document.services[service_name]
        compute = document.compute[deploy.profile]
        placement = document.placement[placement_name]
        spec = specs.get(placement_name)
        if spec is None:
            spec = specs[placement_name] = GroupSpec(
                at=placement.at,
                name=placement_name,
                attributes=list(placement.attributes),
                all_of=placement.all_of,
                any_of=placement.any_of,
                units=[],
            )
        _require_tee(spec, entry)
        expose = exposes(entry.expose, numbers)
        resources = _resources(compute, endpoints_of(expose))
        unit = _unit_for(spec, deploy.profile) if document.pools_units else None
        if unit is None:
            unit = UnitSpec(
                id=len(spec.units) + 1,
                resources=resources,
                count=deploy.count,
                price=placement.pricing[deploy.profile],
                profile=deploy.profile,
            )
            spec.units.append(unit)
        else:
            unit.count += deploy.count
            unit.resources = _resources(compute, _pool(unit.resources.endpoints + resources.endpoints))
        service = _service(service_name, entry, unit.id, resources, deploy.count, expose, document.pools_units)
        services.setdefault(placement_name, []).append(service)
    names = sorted(specs)
    manifest = tuple(ManifestGroup(name=name, services=tuple(services[name])) for name in names)
    return manifest, tuple(specs[name] for name in names)


def sequence_numbers(document: Document) -> dict[str, int]:
    """Each leased address's place, from 1, in the sorted list of all `to.ip`; non-global entries count as ""."""
    names = sorted(
        to.ip
        for service in document.deployment
        if service in document.services
        for expose in document.services[service].expose
        for to in expose.to
        if to.ip or not to.is_global
    )
    return {name: place for place, name in enumerate(names, start=1)}


def exposes(entries: list[ExposeEntry], numbers: dict[str, int]) -> tuple[Expose, ...]:
    """One for each `to` of each entry, sorted by service, port, protocol, global first."""
    found: list[Expose] = []
    for entry in entries:
        http_options = _http_options(entry.http_options)
        for service, is_global, ip in [(to.service, to.is_global, to.ip) for to in entry.to] or [("", False, "")]:
            found.append(
                Expose(
                    port=entry.port,
                    external_port=entry.external_port,
                    proto=UDP if entry.proto.upper() == UDP else TCP,
                    service=service,
                    is_global=is_global,
                    hosts=entry.accept,
                    http_options=http_options,
                    ip=ip,
                    endpoint_sequence_number=numbers[ip] if is_global and ip else 0,
                )
            )
    found.sort(key=lambda expose: (expose.service, expose.port, expose.proto, not expose.is_global))
    return tuple(found)


def _http_options(written: HttpOptions) -> HttpOptions:
    """Zeros become the defaults, but for the two fields whose default is zero."""
    default = HttpOptions()
    return HttpOptions(
        max_body_size=written.max_body_size or default.max_body_size,
        read_timeout=written.read_timeout or default.read_timeout,
        send_timeout=written.send_timeout or default.send_timeout,
        next_tries=written.next_tries or default.next_tries,
        next_timeout=written.next_timeout,
        next_cases=written.next_cases or default.next_cases,
        proxy_buffer_size=written.proxy_buffer_size,
    )


def _require_tee(spec: GroupSpec, entry: ServiceEntry) -> None:
    """Confidential computing asked of a service is asked of the whole placement."""
    tee = entry.params.tee if entry.params else ""
    wanted = Attribute(key=TEE_ATTRIBUTE, value=tee)
    if tee and wanted not in spec.attributes:
        spec.attributes.append(wanted)
        spec.attributes.sort(key=lambda attribute: attribute.key)


def _unit_for(spec: GroupSpec, profile: str) -> UnitSpec | None:
    return next((unit for unit in spec.units if unit.profile == profile), None)


def _pool(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda endpoint: endpoint.sequence_number))


def _resources(compute: Compute, endpoints: tuple[Endpoint, ...]) -> Resources:
    return Resources(
        cpu_milli=compute.cpu_milli or 0,
        cpu_attributes=compute.cpu_attributes,
        memory_bytes=compute.memory_bytes or 0,
        memory_attributes=(),
        gpu_units=compute.gpu_units,
        gpu_attributes=compute.gpu_attributes,
        volumes=tuple(
            Volume(name=volume.name, size_bytes=volume.size_bytes, attributes=volume.attributes)
            for volume in compute.volumes
        ),
        endpoints=endpoints,
    )


def _service(
    name: str,
    entry: ServiceEntry,
    resource_id: int,
    resources: Resources,
    count: int,
    expose: tuple[Expose, ...],
    is_v21: bool,
) -> Service:
    return Service(
        name=name,
        image=entry.image,
        command=entry.command,
        args=entry.args,
        env=entry.env,
        resource_id=resource_id,
        resources=resources,
        count=count,
        expose=expose,
        params=_params(entry.params) if entry.params is not None else None,
        credentials=_credentials(entry.credentials, is_v21) if entry.credentials is not None else None,
    )


def _params(params: Params) -> ServiceParams:
    mounts = [
        VolumeMount(name=name, mount=params.storage[name].mount, read_only=params.storage[name].read_only)
        for name in sorted(params.storage)
    ]
    return ServiceParams(
        storage=tuple(mounts) or None,
        permissions=None if params.permissions is None else Permissions(read=params.permissions),
        tee=Tee(kind=params.tee, attestation=True) if params.tee else None,
    )


def _credentials(written: Credentials, is_v21: bool) -> Credentials:
    """Version 2.0 drops the email and keeps blanks; 2.1 keeps the one and strips the others."""
    if not is_v21:
        return Credentials(host=written.host, email="", username=written.username, password=written.password)
    return Credentials(
        host=written.host.strip(),
        email=written.email.strip(),
        username=written.username.strip(),
        password=written.password.strip(),
    )
