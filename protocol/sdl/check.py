"""What must hold between the parts of an SDL file: references, endpoints, mounts, prices, limits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fondaco.protocol import limits
from fondaco.protocol.manifest.rules import HOST_NAME, PORTS, SERVICE_NAME, VARIABLE_NAME
from fondaco.protocol.sdl.document import (
    Compute,
    Deploy,
    Document,
    ExposeEntry,
    Place,
    PlacementEntry,
    ServiceEntry,
)
from fondaco.protocol.sdl.grammar import HTTP_CASES
from fondaco.protocol.sdl.nodes import Sort
from fondaco.protocol.sdl.problems import Path, Report, nearest
from fondaco.protocol.sdl.quantities import PRICE_DECIMALS

ENDPOINT_NAME = re.compile(r"[a-z]+[-_0-9a-z]+", re.ASCII)
_UNIT_PRICE_MAX = 10_000_000
_HTTP_MAXIMA = {
    "max_body_size": 104_857_600,
    "proxy_buffer_size": 1_048_576,
    "read_timeout": 60_000,
    "send_timeout": 60_000,
}
TEE_KINDS = ("cpu", "cpu-gpu")

Use = tuple[str, str, Deploy]
"""A service, a placement, and how the one is deployed to the other."""


def uses(document: Document) -> Iterator[Use]:
    """Every deployment of a service to a placement, in the order the reference builds units."""
    for service in sorted(document.deployment):
        for placement in sorted(document.deployment[service]):
            yield service, placement, document.deployment[service][placement]


class Check:
    """One pass over a decoded document."""

    def __init__(self, document: Document, report: Report) -> None:
        self._document = document
        self._report = report
        self._hosts: set[str] = set()
        self._taken: dict[tuple[str, int, str], str] = {}
        self._endpoints_used: set[str] = set()
        self._tee: dict[str, str] = {}
        self._denoms: set[str] = set()
        self._any_global = False

    def _say(self, code: str, at: Place, message: str, *more: str | int, suggestion: str = "") -> None:
        self._report.problem(code, at.node, (*at.path, *more), message, suggestion=suggestion)

    def run(self) -> None:
        self._check_endpoints()
        document = self._document
        found = False
        self._check_totals()
        for service_name, placement_name, deploy in uses(document):
            found = True
            self._check_use(service_name, placement_name, deploy)
        if not found:
            self._say("deployment.empty", document.at, "nothing is deployed", "deployment")
        elif not self._any_global:
            self._say(
                "expose.no_global",
                document.at,
                "no deployed service is open to the world",
                "services",
                suggestion="give one service: expose: [{port: 80, to: [{global: true}]}]",
            )
        for name, endpoint in document.endpoints.items():
            if name not in self._endpoints_used:
                self._say("endpoint.unused", endpoint.at, f"the endpoint {name!r} is declared but never used")
        if len(self._denoms) > 1:
            self._say(
                "price.denom",
                document.at,
                f"prices mix {' and '.join(sorted(self._denoms))}",
                "profiles",
                "placement",
            )

    def _check_endpoints(self) -> None:
        for name, endpoint in self._document.endpoints.items():
            if not ENDPOINT_NAME.fullmatch(name):
                self._say("endpoint.name", endpoint.at, f"{name[:60]!r} is not a valid endpoint name")
            if endpoint.kind != "ip":
                self._say(
                    "endpoint.kind", endpoint.at, f"unknown endpoint kind {endpoint.kind[:40]!r}, only ip", "kind"
                )

    def _check_use(self, service_name: str, placement_name: str, deploy: Deploy) -> None:
        document = self._document
        service = document.services.get(service_name)
        compute = document.compute.get(deploy.profile)
        placement = document.placement.get(placement_name)
        if service is None:
            at = Place(deploy.at.node, deploy.at.path[:2])
            close = nearest(service_name, document.services)
            self._say("reference.service", at, f"no service is named {service_name[:60]!r}", suggestion=close)
        if compute is None:
            close = nearest(deploy.profile, document.compute)
            message = f"no compute profile is named {deploy.profile[:60]!r}"
            self._say("reference.profile", deploy.at, message, "profile", suggestion=close)
        if not placement_name:
            self._say("placement.name", deploy.at, "a placement needs a name")
        if placement is None:
            close = nearest(placement_name, document.placement)
            self._say(
                "reference.placement",
                deploy.at,
                f"no placement is named {placement_name[:60]!r}",
                suggestion=close,
            )
        if compute is not None and placement is not None:
            self._check_price(placement, deploy)
        if compute is not None:
            self._check_compute(compute, deploy)
        if service is not None:
            self._check_service(service_name, service)
        if service is not None and compute is not None:
            self._check_storage(service, compute)
            self._check_tee(service, compute, placement_name)

    # --- Prices and limits ---

    def _check_price(self, placement: PlacementEntry, deploy: Deploy) -> None:
        price = placement.pricing.get(deploy.profile)
        if price is None or price.at.node.sort is Sort.NULL:
            self._say(
                "reference.pricing",
                placement.at,
                f"no pricing for the profile {deploy.profile[:60]!r}",
                "pricing",
                deploy.profile,
                suggestion=f"pricing: {{{deploy.profile[:60]}: {{denom: uact, amount: 1000}}}}",
            )
            return
        self._denoms.add(price.denom)
        if price.scaled > _UNIT_PRICE_MAX * 10**PRICE_DECIMALS:
            self._say("price.too_large", price.at, f"a unit price is at most {_UNIT_PRICE_MAX}", "amount")

    def _check_compute(self, compute: Compute, deploy: Deploy) -> None:
        if not compute.has_resources:
            self._say("resources.missing", compute.at, "this profile has no resources", "resources")
            return
        for name, amount, bounds, path in (
            ("cpu", compute.cpu_milli, limits.CPU_MILLI, ("cpu", "units")),
            ("memory", compute.memory_bytes, limits.MEMORY_BYTES, ("memory", "size")),
            ("gpu", compute.gpu_units, limits.GPU_UNITS, ("gpu", "units")),
        ):
            if amount is None:
                self._say("resources.missing", compute.at, f"this profile has no {name}", name)
            else:
                self._check_limit(compute.at, amount, bounds, path)
        if not compute.volumes:
            self._say("resources.missing", compute.at, "this profile has no storage", "storage")
        for volume in compute.volumes:
            self._check_limit(volume.at, volume.size_bytes, limits.VOLUME_BYTES, ("size",))
        if compute.gpu_attributes and not compute.gpu_units:
            self._say("gpu.attributes", compute.at, "GPU attributes need units above 0", "gpu", "units")
        if deploy.count == 0 and self._group_is_empty(deploy):
            self._say("deployment.count", deploy.at, "the count is 0", "count", suggestion="count: 1")

    def _check_totals(self) -> None:
        """A whole group may ask for fifty times what one unit may."""
        totals: dict[str, list[int]] = {}
        for _, name, deploy in uses(self._document):
            compute = self._document.compute.get(deploy.profile)
            if compute is not None and name in self._document.placement:
                asked = (compute.cpu_milli or 0, compute.memory_bytes or 0, compute.gpu_units)
                sums = totals.setdefault(name, [0, 0, 0])
                totals[name] = [one + deploy.count * more for one, more in zip(sums, asked, strict=True)]
        bounds = (limits.CPU_MILLI, limits.MEMORY_BYTES, limits.GPU_UNITS)
        for name, sums in totals.items():
            for what, amount, (_, high) in zip(("cpu", "memory", "gpu"), sums, bounds, strict=True):
                if amount > high * limits.REPLICAS:
                    at = self._document.placement[name].at
                    self._say(
                        "resources.limit", at, f"{amount} of {what} in all, at most {high * limits.REPLICAS}"
                    )

    def _group_is_empty(self, deploy: Deploy) -> bool:
        placement = deploy.at.path[-1]
        return not any(other.count for _, name, other in uses(self._document) if name == placement)

    def _check_limit(self, at: Place, amount: int, bounds: tuple[int, int], path: Path) -> None:
        if not bounds[0] <= amount <= bounds[1]:
            self._report.problem(
                "resources.limit",
                at.node,
                (*at.path, *path),
                f"{amount} is outside {bounds[0]}..{bounds[1]}",
                found=str(amount),
                wanted=f"{bounds[0]}..{bounds[1]}",
            )

    # --- Services ---

    def _check_service(self, name: str, service: ServiceEntry) -> None:
        if not SERVICE_NAME.fullmatch(name):
            self._say(
                "service.name", service.at, f"{name[:60]!r} is not a service name", suggestion="a-z, 0-9 and -"
            )
        if not service.image:
            self._say(
                "service.image", service.at, "a service needs an image", "image", suggestion="image: nginx:1.27"
            )
        for place, variable in enumerate(service.env or ()):
            variable_name = variable.split("=", 1)[0]
            if not VARIABLE_NAME.fullmatch(variable_name):
                self._say(
                    "service.env",
                    service.at,
                    f"{variable_name[:60]!r} is no name of an environment variable",
                    "env",
                    place,
                    suggestion="write NAME=value",
                )
        credentials = service.credentials
        for what in ("host", "username", "password") if credentials else ():
            if not getattr(credentials, what).strip():
                self._say("credentials.missing", service.at, f"credentials need a {what}", "credentials", what)
        for expose in service.expose:
            self._check_expose(name, expose)

    def _check_expose(self, service: str, expose: ExposeEntry) -> None:
        if not PORTS[0] <= expose.port <= PORTS[1]:
            self._say("expose.port", expose.at, f"port {expose.port} is outside {PORTS[0]}..{PORTS[1]}", "port")
        if expose.proto.upper() not in ("", "TCP", "UDP"):
            self._say(
                "expose.proto", expose.at, f"unknown protocol {expose.proto[:20]!r}", "proto", suggestion="TCP"
            )
        for _ in expose.to or (None,):
            self._check_hosts(expose)
        for to in expose.to:
            self._any_global |= to.is_global
            if not to.ip:
                continue
            if not to.is_global:
                self._say(
                    "endpoint.global", to.at, "an ip needs global beside it", "ip", suggestion="global: true"
                )
            if to.ip not in self._document.endpoints:
                close = nearest(to.ip, self._document.endpoints) or f"endpoints: {{{to.ip[:40]}: {{kind: ip}}}}"
                self._say(
                    "endpoint.unknown", to.at, f"no endpoint is named {to.ip[:60]!r}", "ip", suggestion=close
                )
            self._endpoints_used.add(to.ip)
            key = (to.ip, expose.external_port, expose.proto)
            if key in self._taken:
                message = f"{self._taken[key]!r} already has this port of the endpoint {to.ip[:60]!r}"
                self._say("endpoint.port", to.at, message, "ip")
            self._taken[key] = service
        self._check_http_options(expose)

    def _check_hosts(self, expose: ExposeEntry) -> None:
        for place, host in enumerate(expose.accept or ()):
            if not HOST_NAME.fullmatch(host):
                self._say("expose.host", expose.at, f"{host[:60]!r} is not a host name", "accept", place)
            if host in self._hosts:
                self._say("expose.host", expose.at, f"the host {host[:60]!r} is claimed twice", "accept", place)
            self._hosts.add(host)

    def _check_http_options(self, expose: ExposeEntry) -> None:
        for name, most in _HTTP_MAXIMA.items():
            if getattr(expose.http_options, name) > most:
                self._say("expose.http_options", expose.at, f"{name} is at most {most}", "http_options", name)
        cases = expose.http_options.next_cases
        for case in cases:
            if case not in HTTP_CASES:
                self._say(
                    "expose.http_options",
                    expose.at,
                    f"unknown case {case[:40]!r}",
                    "http_options",
                    "next_cases",
                    suggestion=f"one of {', '.join(HTTP_CASES)}",
                )
        if "off" in cases and len(cases) > 1:
            self._say("expose.http_options", expose.at, "off stands alone", "http_options", "next_cases")

    # --- Storage and confidential computing ---

    def _check_storage(self, service: ServiceEntry, compute: Compute) -> None:
        volumes = {volume.name: volume for volume in compute.volumes}
        mounts = service.params.storage if service.params else {}
        taken: dict[str, str] = {}
        for name, mount in mounts.items():
            volume = volumes.get(name)
            if volume is None:
                close = nearest(name, volumes)
                self._say(
                    "storage.unknown", mount.at, f"the profile has no volume {name[:60]!r}", suggestion=close
                )
            if not mount.mount.startswith("/"):
                self._say(
                    "storage.mount", mount.at, "a mount is an absolute path", "mount", suggestion="mount: /data"
                )
            if mount.mount in taken:
                message = f"{taken[mount.mount][:60]!r} is already mounted at {mount.mount[:60]!r}"
                self._say("storage.mount", mount.at, message, "mount")
            taken[mount.mount] = name
            if self._document.pools_units and volume and volume.get("class") == "ram" and mount.read_only:
                self._say("storage.ram", mount.at, "a volume of class ram cannot be read-only", "readOnly")
        for name, volume in volumes.items():
            if volume.get("persistent") != "true" or name in mounts:
                continue
            # The reference only notices where a 2.0 service mounts nothing at all.
            self._report.problem(
                "storage.mount",
                volume.at.node,
                volume.at.path,
                f"the persistent volume {name[:60]!r} is mounted nowhere",
                suggestion=f"params: {{storage: {{{name[:60]}: {{mount: /data}}}}}}",
                only_warn=self._document.pools_units or bool(mounts),
            )

    def _check_tee(self, service: ServiceEntry, compute: Compute, placement: str) -> None:
        tee = service.params.tee if service.params else ""
        if not tee:
            return
        if tee not in TEE_KINDS:
            suggestion = f"one of {', '.join(TEE_KINDS)}"
            self._say("tee.kind", service.at, f"unknown tee {tee[:40]!r}", "params", "tee", suggestion=suggestion)
        if tee == "cpu-gpu" and not compute.gpu_units:
            self._say("tee.gpu", service.at, "tee cpu-gpu needs GPU units above 0", "params", "tee")
        if self._tee.setdefault(placement, tee) != tee:
            self._say(
                "tee.mixed",
                service.at,
                f"this placement already has tee {self._tee[placement]!r}",
                "params",
                "tee",
            )
