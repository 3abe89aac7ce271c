"""A whole SDL document, decoded."""

from __future__ import annotations

import re

from fondaco.protocol.sdl import quantities
from fondaco.protocol.sdl.decode import Decoder
from fondaco.protocol.sdl.document import Deploy, Document, EndpointEntry, Place
from fondaco.protocol.sdl.nodes import Node, Sort
from fondaco.protocol.sdl.problems import Report
from fondaco.protocol.sdl.read_profiles import read_compute, read_placement
from fondaco.protocol.sdl.read_services import ABSENT, read_services

TOP = ("version", "include", "services", "profiles", "deployment", "endpoints", "reclamation")
_VERSION = re.compile(r"\s*v?([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?\s*", re.ASCII)


def read_document(root: Node, report: Report) -> Document:
    """Decode `root`, reporting what the reference parser would not decode."""
    decoder = Decoder(report)
    document = Document(at=Place(root, ()))
    if root.sort is not Sort.MAP:
        decoder.wrong_type(root, (), "a mapping with version, services, profiles and deployment")
        return document
    fields = decoder.strict_fields(root, (), TOP)
    document.pools_units = _read_version(fields.get("version"), root, report)
    decoder.texts(fields.get("include", ABSENT), ("include",))
    document.services = read_services(decoder, fields.get("services", ABSENT), ("services",))
    profiles = decoder.fields(fields.get("profiles", ABSENT), ("profiles",))
    document.compute = read_compute(decoder, profiles.get("compute", ABSENT), ("profiles", "compute"))
    document.placement = read_placement(decoder, profiles.get("placement", ABSENT), ("profiles", "placement"))
    document.deployment = _read_deployment(decoder, fields.get("deployment", ABSENT))
    document.endpoints = _read_endpoints(decoder, fields.get("endpoints", ABSENT))
    if "reclamation" in fields:
        document.reclamation_ms = _read_reclamation(decoder, fields["reclamation"])
    return document


def _read_reclamation(decoder: Decoder, node: Node) -> int:
    path = ("reclamation", "min_window")
    window = decoder.fields(node, path[:1]).get("min_window", ABSENT)
    if window.sort is Sort.NULL:
        decoder.report.problem("reclamation.window", node, path, "no min_window", wanted="a duration as 1h")
    return decoder.quantity(window, path, quantities.duration_ms, 0, "reclamation.window")


def _read_version(node: Node | None, root: Node, report: Report) -> bool:
    """Whether it is 2.1 or later; anything between, or below 2.0, is refused."""
    suggestion = 'write version: "2.0"'
    if node is None:
        report.problem(
            "version.missing", root, ("version",), "no version", wanted="2.0 or 2.1", suggestion=suggestion
        )
        return False
    match = _VERSION.fullmatch(node.text)
    version = tuple(int(part or 0) for part in match.groups()) if match else ()
    if version != (2, 0, 0) and version < (2, 1, 0):
        report.problem(
            "version.unknown",
            node,
            ("version",),
            f"unknown version {node.text[:40]!r}",
            found=node.text,
            wanted="2.0 or 2.1",
            suggestion=suggestion,
        )
    return version >= (2, 1, 0)


def _read_deployment(decoder: Decoder, node: Node) -> dict[str, dict[str, Deploy]]:
    deployment: dict[str, dict[str, Deploy]] = {}
    for service, _, placements in decoder.entries(node, ("deployment",)):
        path = ("deployment", service)
        deployment[service] = {}
        for placement, _, value in decoder.entries(placements, path):
            at = (*path, placement)
            fields = decoder.fields(value, at)
            deployment[service][placement] = Deploy(
                at=Place(value, at),
                profile=decoder.text(fields.get("profile", ABSENT), (*at, "profile")),
                count=decoder.integer(fields.get("count", ABSENT), (*at, "count")),
            )
    return deployment


def _read_endpoints(decoder: Decoder, node: Node) -> dict[str, EndpointEntry]:
    endpoints = {}
    for name, _, value in decoder.entries(node, ("endpoints",)):
        path = ("endpoints", name)
        kind = decoder.fields(value, path).get("kind", ABSENT)
        endpoints[name] = EndpointEntry(at=Place(value, path), kind=decoder.text(kind, (*path, "kind")))
    return endpoints
