"""Whether a provider qualifies for a group, and whether an offer is as good as what was asked.

Akash's placement rules (chain-sdk, `MatchRequirements`, `MatchResourcesRequirements`), used by the bid engine, the
tenant, the book and the ledger alike, so pure and deterministic.  Every function returns the reasons against, with
the number that failed; none means a match.  Which attestations are alive is the caller's business.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fondaco.protocol import addresses
from fondaco.protocol.market import Reason
from fondaco.protocol.resources import (
    Attribute,
    Endpoint,
    EndpointKind,
    Placement,
    Resources,
    ResourceUnit,
    Volume,
)
from fondaco.protocol.scalars import PublicKey

Attributes = tuple[Attribute, ...]
Attested = Mapping[PublicKey, Attributes]
"""What each auditor says of the provider."""
Reasons = tuple[Reason, ...]

GPU_PREFIX = "vendor/"
STORAGE_CAPABILITY = "capabilities/storage/"
GPU_CAPABILITY = "capabilities/gpu/"
ANY = "*"
AUDITORS_NAMED = 3


# --- Attributes --------------------------------------------------------------------------------------------------


def attribute_matches(asked: Attribute, own: Attribute) -> bool:
    """Equal values, and equal keys but for a trailing `*` in the one asked."""
    if asked.value != own.value:
        return False
    if asked.key.endswith(ANY):
        return own.key.startswith(asked.key[: -len(ANY)])
    return asked.key == own.key


def missing_attributes(asked: Iterable[Attribute], own: Attributes) -> Attributes:
    """Those asked that nothing in `own` matches."""
    return tuple(one for one in asked if not any(attribute_matches(one, other) for other in own))


def match_placement(placement: Placement, own: Attributes, attested: Attested) -> Reasons:
    """Reasons why a provider with attributes `own` and attestations `attested` does not qualify."""
    if not placement.all_of and not placement.any_of:
        missing = missing_attributes(placement.attributes, own)
        return tuple(_attribute_reason(one, own, "its own word") for one in missing)
    reasons: list[Reason] = []
    for auditor in placement.all_of:
        said = attested.get(auditor)
        if said is None:
            reasons.append(_auditor_reason(auditor, "attested nothing"))
            continue
        for one in missing_attributes(placement.attributes, said):
            reasons.append(_attribute_reason(one, said, f"auditor {addresses.encode(auditor)}"))
    if placement.any_of and not any(
        auditor in attested and not missing_attributes(placement.attributes, attested[auditor])
        for auditor in placement.any_of
    ):
        known = sum(auditor in attested for auditor in placement.any_of)
        asked = f"{len(placement.attributes)} attributes by {_any_of(placement.any_of)}"
        reasons.append(Reason(dimension="signed_by any_of", asked=asked, available=f"{known} attested, none all"))
    return tuple(reasons)


def _attribute_reason(asked: Attribute, own: Attributes, source: str) -> Reason:
    has = next((one.value for one in own if one.key == asked.key), "none")
    return Reason(dimension=f"attribute {asked.key}", asked=asked.value, available=f"{has} by {source}")


def _auditor_reason(auditor: PublicKey, available: str) -> Reason:
    return Reason(dimension="signed_by all_of", asked=addresses.encode(auditor), available=available)


def _any_of(auditors: tuple[PublicKey, ...]) -> str:
    """The first few by name: a reason is read by people."""
    named = " or ".join(map(addresses.encode, auditors[:AUDITORS_NAMED]))
    more = len(auditors) - AUDITORS_NAMED
    return f"{named} or one of {more} more" if more > 0 else named


# --- GPUs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GpuModel:
    """A kind of GPU; in a request, empty fields and the model `*` mean "any"."""

    vendor: str
    model: str
    ram: str = ""
    interface: str = ""

    @property
    def key(self) -> str:
        """`vendor/nvidia/model/h100/ram/80Gi/interface/sxm`."""
        ram = f"/ram/{self.ram}" if self.ram else ""
        interface = f"/interface/{self.interface}" if self.interface else ""
        return f"vendor/{self.vendor}/model/{self.model}{ram}{interface}"

    def satisfies(self, asked: GpuModel) -> bool:
        """Whether this model will do where `asked` is asked."""
        return (
            self.vendor == asked.vendor
            and asked.model in (ANY, self.model)
            and asked.ram in ("", self.ram)
            and asked.interface in ("", self.interface)
        )


@functools.lru_cache(maxsize=1_024)
def gpu_model(key: str) -> GpuModel | None:
    """Read `vendor/V/model/M[/ram/R][/interface/I]`; None if it is not of that form.  `sxm5` is `sxm`."""
    parts = key.split("/")
    pairs = dict(zip(parts[0::2], parts[1::2], strict=False))
    if len(parts) % 2 or len(pairs) * 2 != len(parts) or not {"vendor", "model"} <= pairs.keys():
        return None
    if not pairs.keys() <= {"vendor", "model", "ram", "interface"}:
        return None
    interface = pairs.get("interface", "")
    return GpuModel(
        vendor=pairs["vendor"],
        model=pairs["model"],
        ram=pairs.get("ram", ""),
        interface="sxm" if interface.startswith("sxm") else interface,
    )


def gpu_models(attributes: Iterable[Attribute]) -> tuple[GpuModel, ...]:
    """The models that attributes of a unit (or `capabilities/gpu/...` of a provider) name as true."""
    found = []
    for attribute in attributes:
        model = gpu_model(attribute.key.removeprefix(GPU_CAPABILITY)) if attribute.value == "true" else None
        if model is not None:
            found.append(model)
    return tuple(found)


def gpu_will_do(asked: Attributes, model: GpuModel) -> bool:
    """Whether `model` is any one of those asked."""
    return any(model.satisfies(one) for one in gpu_models(asked))


# --- Storage -----------------------------------------------------------------------------------------------------


def volume_class(volume: Volume) -> str:
    """Its class; empty for plain ephemeral storage."""
    return next((attribute.value for attribute in volume.attributes if attribute.key == "class"), "")


def storage_capabilities(own: Attributes) -> tuple[Attributes, ...]:
    """`capabilities/storage/1/class` and the like, grouped by their number."""
    groups: dict[str, list[Attribute]] = {}
    for attribute in own:
        parts = attribute.key.removeprefix(STORAGE_CAPABILITY).split("/")
        if attribute.key.startswith(STORAGE_CAPABILITY) and len(parts) == 2:
            groups.setdefault(parts[0], []).append(Attribute(key=parts[1], value=attribute.value))
    return tuple(tuple(group) for group in groups.values())


def match_capabilities(units: Iterable[ResourceUnit], own: Attributes) -> Reasons:
    """Reasons why the capabilities a provider lists do not cover what the units ask of storage and GPUs."""
    asking = [unit for unit in units if unit.resources.gpu_units or unit.resources.volumes]
    if not asking:  # mostly; and attributes of a provider may be many
        return ()
    classes = storage_capabilities(own)
    models = gpu_models(one for one in own if one.key.startswith(GPU_CAPABILITY))
    reasons: list[Reason] = []
    for unit in asking:
        resources = unit.resources
        for volume in resources.volumes:
            if volume_class(volume) and not any(not missing_attributes(volume.attributes, one) for one in classes):
                asked = " ".join(f"{one.key}={one.value}" for one in volume.attributes)
                has = f"{len(classes)} other classes"
                reasons.append(Reason(dimension=f"storage {volume.name}", asked=asked, available=has))
        if resources.gpu_units and not any(gpu_will_do(resources.gpu_attributes, one) for one in models):
            wanted = " or ".join(_short(model) for model in gpu_models(resources.gpu_attributes))
            has = ", ".join(sorted({model.model for model in models})) or "none"
            reasons.append(Reason(dimension="gpu model", asked=wanted, available=has))
    return tuple(dict.fromkeys(reasons))


def _short(model: GpuModel) -> str:
    return " ".join(part for part in (model.model, model.ram, model.interface) if part)


# --- Offers ------------------------------------------------------------------------------------------------------


def check_offer(asked: tuple[ResourceUnit, ...], offered: tuple[ResourceUnit, ...]) -> Reasons:
    """Reasons why `offered` is less than `asked`: an offer may be better, never smaller."""
    if [unit.id for unit in asked] != [unit.id for unit in offered]:
        ids = (" ".join(str(unit.id) for unit in units) for units in (asked, offered))
        return (Reason(dimension="units", asked=next(ids), available=next(ids)),)
    reasons: list[Reason] = []
    for want, have in zip(asked, offered, strict=True):
        if want.count != have.count:  # how many replicas run is the tenant's business
            reasons.append(
                Reason(dimension=f"unit {want.id} count", asked=str(want.count), available=str(have.count))
            )
        plain = not (want.resources.gpu_units or want.resources.volumes)
        if not (plain and want.resources == have.resources):  # mostly offered as asked
            _check_resources(reasons, f"unit {want.id}", want.resources, have.resources)
    return tuple(reasons)


def check_bid_units(asked: tuple[ResourceUnit, ...], offered: tuple[ResourceUnit, ...]) -> Reasons:
    """As `check_offer`, for what a lease would be made of: one GPU model a unit, for all its replicas alike."""
    reasons = list(check_offer(asked, offered))
    for unit in offered:
        models = gpu_models(unit.resources.gpu_attributes)
        if unit.resources.gpu_units and (len(models) > 1 or any(model.model == ANY for model in models)):
            has = " or ".join(_short(model) for model in models)
            reasons.append(Reason(dimension=f"unit {unit.id} gpu model", asked="one for all", available=has))
    return tuple(reasons)


def _less(reasons: list[Reason], dimension: str, asked: int, offered: int) -> None:
    if offered < asked:
        reasons.append(Reason(dimension=dimension, asked=str(asked), available=str(offered)))


def _check_resources(reasons: list[Reason], unit: str, asked: Resources, offered: Resources) -> None:
    _less(reasons, f"{unit} cpu_milli", asked.cpu_milli, offered.cpu_milli)
    _less(reasons, f"{unit} memory_bytes", asked.memory_bytes, offered.memory_bytes)
    _less(reasons, f"{unit} gpu", asked.gpu_units, offered.gpu_units)
    for name, want, have in (
        ("cpu", asked.cpu_attributes, offered.cpu_attributes),
        ("memory", asked.memory_attributes, offered.memory_attributes),
    ):
        for missing in missing_attributes(want, have):
            reasons.append(Reason(dimension=f"{unit} {name} {missing.key}", asked=missing.value, available="none"))
    if asked.gpu_units:
        _check_gpu(reasons, unit, asked.gpu_attributes, offered.gpu_attributes)
    volumes = {volume.name: volume for volume in offered.volumes}
    for volume in asked.volumes:
        _check_volume(reasons, f"{unit} volume {volume.name}", volume, volumes.get(volume.name))
    for kind in EndpointKind:
        want_count, have_count = (_count(one.endpoints)[kind] for one in (asked, offered))
        _less(reasons, f"{unit} {kind.name}", want_count, have_count)


def _check_gpu(reasons: list[Reason], unit: str, asked: Attributes, offered: Attributes) -> None:
    """Every model offered must be one of those asked: the provider chooses among them, not around them."""
    models = gpu_models(offered)
    wanted = gpu_models(asked)
    # A request repeated word for word is as good as itself, `*` included.
    wrong = [model for model in models if model not in wanted and not gpu_will_do(asked, model)]
    if wrong or not models or len(models) != len(offered):
        names = " or ".join(_short(model) for model in wanted)
        has = ", ".join(_short(model) for model in wrong) or "none named"
        reasons.append(Reason(dimension=f"{unit} gpu model", asked=names, available=has))


def _check_volume(reasons: list[Reason], dimension: str, asked: Volume, offered: Volume | None) -> None:
    if offered is None:
        reasons.append(Reason(dimension=dimension, asked=str(asked.size_bytes), available="0"))
        return
    _less(reasons, dimension, asked.size_bytes, offered.size_bytes)
    for missing in missing_attributes(asked.attributes, offered.attributes):
        has = next((one.value for one in offered.attributes if one.key == missing.key), "none")
        reasons.append(Reason(dimension=f"{dimension} {missing.key}", asked=missing.value, available=has))


def _count(endpoints: tuple[Endpoint, ...]) -> Counter[EndpointKind]:
    return Counter(endpoint.kind for endpoint in endpoints)
