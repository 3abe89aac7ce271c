"""The way through: SDL text in, a manifest and groups ready to be ordered out."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.manifest.form import attributes_plain, canonical, resources_plain, to_json
from fondaco.protocol.manifest.model import Manifest
from fondaco.protocol.manifest.rules import check_manifest
from fondaco.protocol.resources import Group, Placement, ResourceUnit, check_group
from fondaco.protocol.scalars import Hash, MicroCredits, Millis, PublicKey
from fondaco.protocol.sdl.build import GroupSpec, UnitSpec, build
from fondaco.protocol.sdl.check import Check
from fondaco.protocol.sdl.grammar import check_shape
from fondaco.protocol.sdl.nodes import load
from fondaco.protocol.sdl.problems import Problem, Report
from fondaco.protocol.sdl.quantities import PRICE_DECIMALS, show_price
from fondaco.protocol.sdl.read import read_document
from fondaco.protocol.signing import sha256

PERIODS_PER_HOUR = 600
"""An SDL amount is per pricing period: one Akash block of six seconds."""
UCREDIT_DENOMS = ("uact", "uakt")
"""What stands for micro-credits in files written for Akash."""


class Mode(enum.Enum):
    STRICT = "strict"
    """The official schema and the semantic rules."""
    GO = "go"
    """The semantic rules alone; departures from the schema become warnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """An accepted SDL file."""

    manifest: Manifest
    specs: tuple[GroupSpec, ...]
    """The groups in the words of the file, as `groups_plain` prints them."""
    reclamation_ms: Millis
    """The shortest notice of reclamation asked for; 0 for none."""
    warnings: tuple[Problem, ...]

    @property
    def version_hash(self) -> Hash:
        return sha256(to_json(self.manifest))

    @property
    def groups_sha256(self) -> Hash:
        """Over the groups as Akash prints them, keys sorted, compact, without escapes for HTML."""
        return sha256(canonical(self.groups_plain(), escape=False))

    def groups_plain(self) -> list[object]:
        """The group specifications as plain JSON values, in Akash's form."""
        return [_spec_plain(spec) for spec in self.specs]

    def groups(self, aliases: Mapping[str, PublicKey]) -> tuple[Group, ...]:
        """The groups as they are ordered: auditors resolved, prices in micro-credits an hour, limits kept.

        `aliases` gives the keys of foreign auditor addresses (`akash1...`).  Raises `SdlError` with all that
        stands against ordering: `sdl.placement.unknown_auditor`, `sdl.price.denom`, `sdl.price.too_small`,
        `sdl.reclamation.window`, `sdl.resources.limit`, `sdl.manifest.invalid` for what the reference lets pass
        and no provider here would.
        """
        report = Report()
        try:
            check_manifest(self.manifest)
        except Refused as error:
            _say(report, self.specs[0], error.code, error.message, "manifest")
        found = [_group(spec, aliases, report) for spec in self.specs]
        low, high = limits.RECLAMATION_WINDOW_MS
        if self.reclamation_ms and not low <= self.reclamation_ms <= high:
            asked = f"a reclamation window of {self.reclamation_ms} ms, allowed {low}..{high}"
            _say(report, self.specs[0], "reclamation.window", asked, suggestion="ask for 1h to 720h")
        size = len(to_json(self.manifest))
        if len(self.specs) > limits.GROUPS:
            _say(report, self.specs[0], "resources.limit", f"{len(self.specs)} groups, at most {limits.GROUPS}")
        if size > limits.MANIFEST_BYTES:
            _say(report, self.specs[0], "manifest.size", f"{size} bytes, at most {limits.MANIFEST_BYTES}")
        report.raise_problems()
        return tuple(found)


def parse(text: str | bytes, *, mode: Mode = Mode.STRICT) -> Stack:
    """Read an SDL file.  Raises `SdlError` with every problem found, and nothing else."""
    root = load(text)
    report = Report()
    document = read_document(root, report)
    Check(document, report).run()
    check_shape(root, report, only_warn=mode is Mode.GO)
    report.raise_problems()
    manifest, specs = build(document)
    return Stack(
        manifest=manifest, specs=specs, reclamation_ms=Millis(document.reclamation_ms), warnings=report.warnings
    )


def _spec_plain(spec: GroupSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "requirements": {
            "signed_by": {"all_of": spec.all_of, "any_of": spec.any_of},
            "attributes": attributes_plain(tuple(spec.attributes)) if spec.attributes else None,
        },
        "resources": [
            {
                "resource": resources_plain(unit.id, unit.resources),
                "count": unit.count,
                "price": {"denom": unit.price.denom, "amount": show_price(unit.price.scaled)},
            }
            for unit in spec.units
        ],
    }


def _say(report: Report, spec: GroupSpec, code: str, message: str, *more: str | int, suggestion: str = "") -> None:
    report.problem(code, spec.at.node, (*spec.at.path, *more), message, suggestion=suggestion)


def _group(spec: GroupSpec, aliases: Mapping[str, PublicKey], report: Report) -> Group:
    group = Group(
        name=spec.name,
        units=tuple(ResourceUnit(id=unit.id, resources=unit.resources, count=unit.count) for unit in spec.units),
        placement=Placement(
            attributes=tuple(spec.attributes),
            all_of=_auditors(spec, "allOf", spec.all_of or (), aliases, report),
            any_of=_auditors(spec, "anyOf", spec.any_of or (), aliases, report),
        ),
        max_price_per_hour=_max_price(spec, report),
    )
    if not report.failed:
        try:
            check_group(group)
        except Refused as error:
            _say(report, spec, error.code, error.message)
    return group


def _max_price(spec: GroupSpec, report: Report) -> MicroCredits:
    for unit in spec.units:
        if unit.price.denom not in UCREDIT_DENOMS:
            report.problem(
                "price.denom",
                unit.price.at.node,
                (*unit.price.at.path, "denom"),
                f"prices in {unit.price.denom[:40]!r} cannot be paid here",
                wanted=" or ".join(UCREDIT_DENOMS),
            )
    price = max_price_per_hour(spec.units)
    if price <= 0:
        _say(
            report,
            spec,
            "price.too_small",
            "the maximum price comes to less than a micro-credit an hour",
            "pricing",
        )
    return price


def max_price_per_hour(units: list[UnitSpec]) -> MicroCredits:
    """The group's maximum: amounts summed over replicas, times 600 unless `per: hour`, rounded down once."""
    scaled = sum(unit.price.scaled * unit.count * (1 if unit.price.hourly else PERIODS_PER_HOUR) for unit in units)
    return MicroCredits(scaled // 10**PRICE_DECIMALS)


def _auditors(
    spec: GroupSpec, which: str, named: tuple[str, ...], aliases: Mapping[str, PublicKey], report: Report
) -> tuple[PublicKey, ...]:
    keys = []
    for place, name in enumerate(named):
        key = aliases.get(name)
        if key is None:
            try:
                key = addresses.decode(name)
            except Refused:
                _say(
                    report,
                    spec,
                    "placement.unknown_auditor",
                    f"nobody here is known as the auditor {name[:80]!r}",
                    "signedBy",
                    which,
                    place,
                    suggestion=f"name its key here in auditors.toml in your home: '{name[:80]}' = 'fond1...'",
                )
                continue
        keys.append(key)
    return tuple(sorted(set(keys)))
