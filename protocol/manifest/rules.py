"""What a manifest must satisfy by itself, and against the group that was leased.

`check_group_manifest` repeats for a provider what the SDL layer already made sure of for an honest tenant, since
a manifest arrives from a peer. `check_against` is Akash's cross validation: all replicas leased, on no more than
was leased.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import NoReturn

from fondaco.protocol import matching
from fondaco.protocol.errors import Refused
from fondaco.protocol.manifest.model import TCP, UDP, Manifest, ManifestGroup, Service, endpoints_of
from fondaco.protocol.resources import EndpointKind, Group, ResourceUnit

SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
"""A DNS-1123 subdomain, as Kubernetes wants it."""
VARIABLE_NAME = re.compile(r"(?!\.\.)(?!\.\Z)[-._a-zA-Z][-._a-zA-Z0-9]*")
PORTS = (1, 65_535)


def _refuse(what: str) -> NoReturn:
    raise Refused("manifest.invalid", what)


def _mismatch(what: str) -> NoReturn:
    raise Refused("manifest.mismatch", what)


def check_manifest(manifest: Manifest) -> None:
    """Judge a whole manifest: each group, names unique, and somebody reachable.  Raises `Refused`."""
    if len({group.name for group in manifest}) != len(manifest):
        _refuse("two groups share a name")
    hosts: set[str] = set()
    for group in manifest:
        check_group_manifest(group, hosts=hosts)
    if not any(expose.is_global for group in manifest for service in group.services for expose in service.expose):
        _refuse("no service is open to the world (`to: [{global: true}]`)")


def check_group_manifest(group: ManifestGroup, *, hosts: set[str] | None = None) -> None:
    """Judge one group by itself.  Raises `Refused` with `manifest.invalid`.

    `hosts` collects the host names seen, which must be unique over all that share the set.
    """
    hosts = set() if hosts is None else hosts
    names = [service.name for service in group.services]
    if not names:
        _refuse(f"group {group.name!r} has no services")
    if names != sorted(set(names)):
        _refuse(f"group {group.name!r}: services must be sorted by name and unique")
    for service in group.services:
        _check_service(service, hosts)


def _check_service(service: Service, hosts: set[str]) -> None:
    if not SERVICE_NAME.fullmatch(service.name):
        _refuse(f"{service.name!r} is no service name")
    if not service.image:
        _refuse(f"service {service.name!r} has no image")
    for variable in service.env or ():
        name = variable.split("=", 1)[0]
        if not VARIABLE_NAME.fullmatch(name):
            _refuse(f"service {service.name!r}: {name!r} is no name of an environment variable")
    for expose in service.expose:
        if not PORTS[0] <= expose.port <= PORTS[1] or expose.external_port > PORTS[1]:
            _refuse(f"service {service.name!r}: port {expose.port} as {expose.external_port} is out of range")
        if expose.proto not in (TCP, UDP):
            _refuse(f"service {service.name!r}: protocol {expose.proto!r} is neither TCP nor UDP")
        for host in expose.hosts or ():
            if not HOST_NAME.fullmatch(host):
                _refuse(f"service {service.name!r}: {host!r} is no host name")
            if host in hosts:
                _refuse(f"host {host!r} is claimed twice")
            hosts.add(host)
    _check_mounts(service)


def _check_mounts(service: Service) -> None:
    mounts = service.params.storage if service.params and service.params.storage else ()
    volumes = {volume.name for volume in service.resources.volumes}
    for mount in mounts:
        if mount.name not in volumes:
            _refuse(f"service {service.name!r} mounts {mount.name!r}, which is none of its volumes")
        if not mount.mount.startswith("/") or ".." in mount.mount.split("/") or "\0" in mount.mount:
            _refuse(f"service {service.name!r}: mount {mount.mount!r} is not a plain absolute path")
    if len({mount.mount for mount in mounts}) != len(mounts):
        _refuse(f"service {service.name!r} mounts two volumes at one place")


def check_against(group: Group, manifest: ManifestGroup) -> None:
    """Whether `manifest` runs on what `group` leased: no more of anything, and all replicas and endpoints.

    `group` may be the one ordered or carry the units of the bid that won.

    Raises `Refused` with `manifest.mismatch`, naming the service and the quantity, or `manifest.invalid`.
    """
    check_group_manifest(manifest)
    if manifest.name != group.name:
        _mismatch(f"the manifest is for group {manifest.name!r}, leased is {group.name!r}")
    units = {unit.id: unit for unit in group.units}
    replicas: Counter[int] = Counter()
    used: dict[int, Counter[EndpointKind]] = {unit_id: Counter() for unit_id in units}
    for service in manifest.services:
        unit = units.get(service.resource_id)
        if unit is None:
            _mismatch(f"service {service.name!r} wants resources {service.resource_id}, which were not leased")
        _compare(service, unit)
        replicas[unit.id] += service.count
        used[unit.id].update(endpoint.kind for endpoint in endpoints_of(service.expose))
    for unit in group.units:
        if replicas[unit.id] != unit.count:
            _mismatch(f"resources {unit.id}: {replicas[unit.id]} replicas in the manifest, {unit.count} leased")
        leased = Counter(endpoint.kind for endpoint in unit.resources.endpoints)
        for kind in EndpointKind:
            if used[unit.id][kind] != leased[kind]:
                _mismatch(
                    f"resources {unit.id}: {used[unit.id][kind]} {kind.name} endpoints in the manifest, "
                    f"{leased[kind]} leased"
                )


def _compare(service: Service, leased: ResourceUnit) -> None:
    """What was leased may be better than what was asked: a bid may offer more, and names one of several GPUs."""
    endpoints = leased.resources.endpoints  # counted over all services of the unit, not here
    wanted = replace(leased, resources=replace(service.resources, endpoints=endpoints))
    reasons = matching.check_offer((wanted,), (leased,))
    if reasons:
        _mismatch(f"service {service.name!r} asks for more than was leased: {'; '.join(map(str, reasons))}")
