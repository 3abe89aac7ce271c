"""Whether an order is for this provider at all, before anything is reserved or priced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fondaco.protocol import limits, matching
from fondaco.protocol.market import Reason
from fondaco.protocol.resources import Attribute, Group, Placement
from fondaco.protocol.scalars import PublicKey

TEE_ATTRIBUTE = "tee/type"
"""The placement attribute by which a group asks for confidential computing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a provider is and whom it serves."""

    attributes: tuple[Attribute, ...]
    """Its own, as registered: region, capabilities and the rest."""
    attested: Mapping[PublicKey, tuple[Attribute, ...]] = field(default_factory=dict)
    """Live attestations, by auditor."""
    wanted: tuple[Attribute, ...] = ()
    """What an order's placement must name for this provider to answer it."""
    tee: frozenset[str] = frozenset()
    """Kinds of confidential computing it can prove."""
    checks_capabilities: bool = True
    """Whether `capabilities/...` must cover storage and GPUs; the inventory has the last word either way."""


def reasons_against(group: Group, profile: Profile) -> tuple[Reason, ...]:
    """Why this provider does not bid on `group`; nothing if it may."""
    reasons: list[Reason] = []
    placement = group.placement
    plain = tuple(one for one in placement.attributes if one.key != TEE_ATTRIBUTE)
    reasons += matching.match_placement(
        Placement(attributes=plain, all_of=placement.all_of, any_of=placement.any_of),
        profile.attributes,
        profile.attested,
    )
    for missing in matching.missing_attributes(profile.wanted, placement.attributes):
        reasons.append(
            Reason(dimension=f"wanted {missing.key}", asked="nothing of it", available=f"only {missing.value}")
        )
    for kind in (one.value for one in placement.attributes if one.key == TEE_ATTRIBUTE):
        if kind not in profile.tee:
            has = " ".join(sorted(profile.tee)) or "unsupported"
            reasons.append(Reason(dimension="tee", asked=kind, available=has))
    for unit in group.units:
        count = len(unit.resources.volumes)
        if count > limits.VOLUMES_PER_SERVICE:
            reasons.append(
                Reason(
                    dimension=f"unit {unit.id} volumes",
                    asked=str(count),
                    available=f"at most {limits.VOLUMES_PER_SERVICE}",
                )
            )
    if profile.checks_capabilities:
        reasons += matching.match_capabilities(group.units, profile.attributes)
    return tuple(dict.fromkeys(reasons))
