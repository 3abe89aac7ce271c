"""The `profiles` of an SDL file: what a service gets, where it may run, and what that may cost."""

from __future__ import annotations

import re

from fondaco.protocol.resources import Attribute
from fondaco.protocol.sdl import quantities
from fondaco.protocol.sdl.decode import Decoder
from fondaco.protocol.sdl.document import Compute, Place, PlacementEntry, Price, VolumeEntry
from fondaco.protocol.sdl.nodes import Node, Sort
from fondaco.protocol.sdl.problems import Path
from fondaco.protocol.sdl.read_services import ABSENT

DISK_CLASSES = ("default", "beta1", "beta2", "beta3")
STORAGE_CLASSES = (*DISK_CLASSES, "ram")
DEFAULT_VOLUME = "default"
_ATTRIBUTE_NAME = re.compile(r"[a-zA-Z][\w/.\-]{1,126}[\w*]?", re.ASCII)
_DENOM = re.compile(r"[a-zA-Z][a-zA-Z0-9/:._-]{2,127}", re.ASCII)
_WORDS = {"true": "true", "on": "true", "yes": "true", "false": "false", "off": "false", "no": "false"}


def read_compute(decoder: Decoder, node: Node, path: Path) -> dict[str, Compute]:
    return {name: _compute(decoder, value, (*path, name)) for name, _, value in decoder.entries(node, path)}


def _compute(decoder: Decoder, node: Node, path: Path) -> Compute:
    profile = Compute(at=Place(node, path))
    resources = decoder.fields(node, path).get("resources", ABSENT)
    if resources.sort is Sort.NULL:
        return profile
    profile.has_resources = True
    path = (*path, "resources")
    profile.at = Place(resources, path)
    fields = decoder.fields(resources, path)
    cpu, memory = fields.get("cpu", ABSENT), fields.get("memory", ABSENT)
    if cpu.sort is not Sort.NULL:
        _read_cpu(decoder, cpu, (*path, "cpu"), profile)
    if memory.sort is not Sort.NULL:
        size = decoder.fields(memory, (*path, "memory")).get("size", ABSENT)
        profile.memory_bytes = decoder.quantity(
            size, (*path, "memory", "size"), quantities.size_bytes, 0, "size.suffix"
        )
    _read_gpu(decoder, fields.get("gpu", ABSENT), (*path, "gpu"), profile)
    profile.volumes = _volumes(decoder, fields.get("storage", ABSENT), (*path, "storage"))
    return profile


def _read_cpu(decoder: Decoder, node: Node, path: Path, profile: Compute) -> None:
    fields = decoder.fields(node, path)
    profile.cpu_milli = decoder.quantity(
        fields.get("units", ABSENT), (*path, "units"), quantities.cpu_milli, 0, "cpu.units"
    )
    known = decoder.strict_fields(fields.get("attributes", ABSENT), (*path, "attributes"), ("arch",))
    profile.cpu_attributes = tuple(
        Attribute(key=name, value=decoder.text(value, (*path, "attributes", name)))
        for name, value in known.items()
    )


def _read_gpu(decoder: Decoder, node: Node, path: Path, profile: Compute) -> None:
    if node.sort is Sort.LIST:
        decoder.wrong_type(node, path, "a mapping")
    fields = decoder.strict_fields(node, path, ("units", "attributes"))
    profile.gpu_units = decoder.quantity(
        fields.get("units", ABSENT), (*path, "units"), quantities.gpu_units, 0, "gpu.units"
    )
    attributes = fields.get("attributes", ABSENT)
    if attributes.sort is not Sort.NULL:
        profile.gpu_attributes = _gpu_attributes(decoder, attributes, (*path, "attributes"))
    if profile.gpu_units and attributes.sort is Sort.NULL:
        decoder.report.problem(
            "gpu.attributes",
            node,
            path,
            "GPU units need attributes that say which models will do",
            wanted="attributes.vendor.nvidia",
            suggestion="attributes: {vendor: {nvidia: [{model: h100}]}}, or nvidia: with nothing for any model",
        )


def _gpu_attributes(decoder: Decoder, node: Node, path: Path) -> tuple[Attribute, ...]:
    vendor = decoder.strict_fields(node, path, ("vendor",)).get("vendor", ABSENT)
    if vendor.sort is Sort.NULL:
        decoder.report.problem(
            "gpu.attributes", node, path, "a GPU vendor must be named", wanted="vendor: {nvidia: }"
        )
        return ()
    nvidia = decoder.fields(vendor, (*path, "vendor")).get("nvidia", ABSENT)
    at = (*path, "vendor", "nvidia")
    keys = sorted(decoder.each(nvidia, at, lambda item, where: _gpu_model(decoder, item, where))) or ["*"]
    for key in keys:
        if not _ATTRIBUTE_NAME.fullmatch(f"vendor/nvidia/model/{key}"):
            decoder.report.problem("gpu.model", nvidia, at, f"{key[:60]!r} is no name of a GPU model", found=key)
    if len(set(keys)) != len(keys):
        decoder.report.problem("gpu.model", nvidia, at, "a GPU model is listed twice")
    return tuple(Attribute(key=f"vendor/nvidia/model/{key}", value="true") for key in keys)


def _gpu_model(decoder: Decoder, node: Node, path: Path) -> str:
    fields = decoder.fields(node, path)
    key = decoder.text(fields.get("model", ABSENT), (*path, "model"))
    ram, interface = fields.get("ram", ABSENT), fields.get("interface", ABSENT)
    if ram.sort is not Sort.NULL:
        size = decoder.quantity(
            ram, (*path, "ram"), lambda text: quantities.size_bytes(text, quantities.BINARY), 0, "size.suffix"
        )
        key += f"/ram/{size // quantities.BINARY['Gi']}Gi"
    if interface.sort is not Sort.NULL:
        if interface.text not in ("pcie", "sxm"):
            decoder.report.problem(
                "gpu.interface",
                interface,
                (*path, "interface"),
                f"unknown GPU interface {interface.text[:40]!r}",
                found=interface.text,
                wanted="pcie or sxm",
            )
        key += f"/interface/{interface.text}"
    return key


def _volumes(decoder: Decoder, node: Node, path: Path) -> list[VolumeEntry]:
    """A mapping is one volume named default; in a list the names must differ."""
    volumes: list[VolumeEntry] = []
    if node.sort is Sort.LIST:
        volumes = [_volume(decoder, item, (*path, place)) for place, item in enumerate(node.children)]
    elif node.sort is Sort.MAP:
        volumes = [_volume(decoder, node, path)]
        volumes[0].name = DEFAULT_VOLUME
    names: set[str] = set()
    for volume in volumes:
        if volume.name in names:
            decoder.report.problem(
                "storage.duplicate",
                volume.at.node,
                volume.at.path,
                f"two volumes are named {volume.name[:60]!r}",
                suggestion="give each volume a name of its own",
            )
        names.add(volume.name)
    _insertion_sort(volumes)
    return volumes


def _volume(decoder: Decoder, node: Node, path: Path) -> VolumeEntry:
    fields = decoder.fields(node, path)
    attributes = fields.get("attributes", ABSENT)
    return VolumeEntry(
        at=Place(node, path),
        name=decoder.text(fields.get("name", ABSENT), (*path, "name")) or DEFAULT_VOLUME,
        size_bytes=decoder.quantity(
            fields.get("size", ABSENT), (*path, "size"), quantities.size_bytes, 0, "size.suffix"
        ),
        attributes=()
        if attributes.sort is Sort.NULL
        else _volume_attributes(decoder, attributes, (*path, "attributes")),
    )


def _volume_attributes(decoder: Decoder, node: Node, path: Path) -> tuple[Attribute, ...]:
    """`class` and `persistent`, with the reference's defaults; it compares the raw words, and so do we."""
    said = {name: decoder.text(value, (*path, name)) for name, _, value in decoder.entries(node, path)}
    persistent = said.setdefault("persistent", "false")
    name = said.get("class", "")

    def wrong(code: str, message: str, suggestion: str = "") -> None:
        decoder.report.problem(code, node, path, message, found=name or persistent, suggestion=suggestion)

    if name == "" and persistent == "true":
        said["class"] = "default"
    elif name == "ram" and persistent != "false":
        wrong("storage.ram", "a volume of class ram cannot be persistent", "persistent: false")
    elif name not in ("", "ram") and persistent == "false":
        wrong("storage.class", f"class {name[:40]!r} is for persistent volumes", "persistent: true")
    for key in said:
        if key not in ("class", "persistent"):
            wrong("key.unknown", f"unknown storage attribute {key[:40]!r}")
    if "class" in said and said["class"] not in STORAGE_CLASSES:
        wrong("storage.class", f"unknown storage class {name[:40]!r}", f"one of {', '.join(STORAGE_CLASSES)}")
    if persistent not in _WORDS:
        wrong("storage.persistent", f"persistent is {persistent[:40]!r}, wanted true or false")
    said["persistent"] = _WORDS.get(persistent, "false")
    return tuple(Attribute(key=key, value=said[key]) for key in sorted(said))


def _insertion_sort(volumes: list[VolumeEntry]) -> None:
    """The reference's order is no order at all (equal volumes are each "less"), so its very algorithm matters."""
    for end in range(1, len(volumes)):
        place = end
        while place > 0 and _goes_before(volumes[place], volumes[place - 1]):
            volumes[place], volumes[place - 1] = volumes[place - 1], volumes[place]
            place -= 1


def _goes_before(one: VolumeEntry, other: VolumeEntry) -> bool:
    if one.size_bytes != other.size_bytes:
        return one.size_bytes < other.size_bytes
    mine, theirs = one.get("persistent"), other.get("persistent")
    if mine != theirs:
        return mine < theirs  # absent, which is "", before "false" before "true"
    return mine != "true" or one.name < other.name


def read_placement(decoder: Decoder, node: Node, path: Path) -> dict[str, PlacementEntry]:
    return {name: _placement(decoder, value, (*path, name)) for name, _, value in decoder.entries(node, path)}


def _placement(decoder: Decoder, node: Node, path: Path) -> PlacementEntry:
    fields = decoder.fields(node, path)
    at = (*path, "attributes")
    attributes = {
        name: decoder.text(value, (*at, name))
        for name, _, value in decoder.entries(fields.get("attributes", ABSENT), at)
    }
    signed = decoder.fields(fields.get("signedBy", ABSENT), (*path, "signedBy"))
    return PlacementEntry(
        at=Place(node, path),
        attributes=tuple(Attribute(key=name, value=attributes[name]) for name in sorted(attributes)),
        all_of=decoder.texts(signed.get("allOf", ABSENT), (*path, "signedBy", "allOf")),
        any_of=decoder.texts(signed.get("anyOf", ABSENT), (*path, "signedBy", "anyOf")),
        pricing={
            name: _price(decoder, value, (*path, "pricing", name))
            for name, _, value in decoder.entries(fields.get("pricing", ABSENT), (*path, "pricing"))
        },
    )


def _price(decoder: Decoder, node: Node, path: Path) -> Price:
    fields = decoder.fields(node, path)
    per = decoder.text(fields.get("per", ABSENT), (*path, "per"))
    if per not in ("", "hour"):
        decoder.report.problem(
            "price.per", fields["per"], (*path, "per"), f"unknown period {per[:40]!r}", found=per, wanted="hour"
        )
    denom = decoder.text(fields.get("denom", ABSENT), (*path, "denom"))
    price = Price(at=Place(node, path), denom=denom, scaled=0, hourly=per == "hour")
    if node.sort is Sort.NULL:
        return price  # a problem only where it is used
    if not _DENOM.fullmatch(denom):
        at = fields.get("denom", node)
        message = f"{denom[:40]!r} is no denomination" if denom else "a price needs a denom"
        decoder.report.problem("price.denom", at, (*path, "denom"), message, suggestion="denom: uact")
    amount = fields.get("amount", ABSENT)
    scaled = decoder.quantity(amount, (*path, "amount"), quantities.price, 0, "price.amount")
    if scaled <= 0:
        decoder.report.problem(
            "price.amount",
            amount if amount.line else node,
            (*path, "amount"),
            "a price must be above zero",
            found=amount.text,
            wanted="a positive decimal",
        )
    price.scaled = max(scaled, 0)
    return price
