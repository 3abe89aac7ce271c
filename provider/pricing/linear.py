"""A price list: so much for each unit of each resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from fondaco.protocol import limits, matching
from fondaco.protocol.errors import Refused
from fondaco.protocol.resources import EndpointKind, ResourceUnit
from fondaco.provider.pricing.quote import NO_SITUATION, Quote, Situation, made_of

ANY_MODEL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScale:
    """So much for each unit of each resource, in micro-credits an hour."""

    per_cpu: int
    per_memory_gib: int
    per_storage_gib: Mapping[str, int] = field(default_factory=dict)
    """By class; `""` is ephemeral storage."""
    per_gpu: Mapping[str, int] = field(default_factory=dict)
    """By model, the most specific first: `h100/80Gi/sxm`, `h100/80Gi`, `h100`, `*`."""
    per_endpoint: int = 0
    per_ip: int = 0
    minimum: int = 1
    """For the whole group; at least 1, since a price is always positive."""

    def quote(self, units: tuple[ResourceUnit, ...], situation: Situation = NO_SITUATION) -> Quote:
        # Whole numbers until the end: fractions for each volume of each unit would take longer than all the rest.
        sums: dict[tuple[str, int], int] = {}
        for unit in units:
            for what, over, amount in self._parts(unit):
                sums[what, over] = sums.get((what, over), 0) + amount
        parts = [(what, Fraction(amount, over)) for (what, over), amount in sums.items() if amount]
        return made_of(parts, minimum=self.minimum)

    def _parts(self, unit: ResourceUnit) -> Iterator[tuple[str, int, int]]:
        """(what, denominator, numerator) of all replicas."""
        resources, count = unit.resources, unit.count
        yield "cpu", 1_000, count * resources.cpu_milli * self.per_cpu
        yield "memory", limits.GIB, count * resources.memory_bytes * self.per_memory_gib
        for volume in resources.volumes:
            name = matching.volume_class(volume)
            rate = self.per_memory_gib if name == "ram" else self._storage_rate(name)
            yield f"storage {name or 'ephemeral'}", limits.GIB, count * volume.size_bytes * rate
        if resources.gpu_units:
            models = matching.gpu_models(resources.gpu_attributes)
            if not models:
                raise Refused("pricing.unpriced", f"unit {unit.id} names no GPU model that has a price")
            # Where several models would do, the dearest is priced: the provider may end up giving that one.
            rate, name = max((self.gpu_rate(model), model.model) for model in models)
            yield f"gpu {name}", 1, count * resources.gpu_units * rate
        kinds = [endpoint.kind for endpoint in resources.endpoints]
        leased = kinds.count(EndpointKind.LEASED_IP)
        # Endpoints are listed for the unit as a whole, not for each replica.
        yield "endpoints", 1, (len(kinds) - leased) * self.per_endpoint
        yield "ip", 1, leased * self.per_ip

    def _storage_rate(self, name: str) -> int:
        if name not in self.per_storage_gib:
            raise Refused("pricing.unpriced", f"no price for storage of class {name or 'ephemeral'!r}")
        return self.per_storage_gib[name]

    def gpu_rate(self, model: matching.GpuModel) -> int:
        """For one of this model. Raises `Refused` `pricing.unpriced`."""
        names = (
            f"{model.model}/{model.ram}/{model.interface}",
            f"{model.model}/{model.ram}",
            model.model,
            ANY_MODEL,
        )
        for name in names:
            if name in self.per_gpu:
                return self.per_gpu[name]
        raise Refused("pricing.unpriced", f"no price for the GPU {model.key}")
