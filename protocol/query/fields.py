"""What can be asked about: fields, what they hold, and how a value of each is written."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from fondaco.protocol.query import bounds
from fondaco.protocol.spelling import nearest

Number = int | Fraction


class Kind(enum.Enum):
    """What a field holds. Numbers are compared exactly, in their smallest unit: see `scale`."""

    TEXT = "text"
    NUMBER = "a number"
    CPU = "processors: 2, 0.5 or 500m"
    BYTES = "bytes: 512MB, 16GiB"
    """Mi, MB and MiB are 2^20 alike, for who writes 80GB of a GPU means what its maker calls so; M is 10^6, as in
    an SDL file."""
    PRICE = "credits an hour: 2.5, or 60/day"
    TIME = "milliseconds: 50, 50ms, 2s, 5m, 1h, 7d"
    SHARE = "a share: 99.5%, or 0.995"
    FLAG = "yes or no"

    @property
    def ordered(self) -> bool:
        return self not in (Kind.TEXT, Kind.FLAG)

    @property
    def scale(self) -> int:
        """How many of the smallest unit make one as it is written: ucredits a credit, thousandths of a CPU."""
        return _SCALES.get(self, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something that is known, or not, of each subject."""

    name: str
    kind: Kind
    meaning: str


class Schema:
    """The fields of one kind of subject; those that begin with `attribute.` hold whatever a provider declares."""

    def __init__(self, name: str, fields: Iterable[Field]) -> None:
        self.name = name
        self.fields: Mapping[str, Field] = {field.name: field for field in fields}

    def find(self, name: str) -> Field | None:
        name = name.lower()
        if name.startswith(ATTRIBUTE) and len(name) > len(ATTRIBUTE):
            return Field(name=name, kind=Kind.TEXT, meaning=f"the provider's attribute {name[len(ATTRIBUTE) :]}")
        return self.fields.get(name)

    def nearest(self, name: str) -> str | None:
        """The field that `name` may be a misspelling of."""
        return nearest(name.lower(), self.fields)


ATTRIBUTE = "attribute."
_SCALES: Mapping[Kind, int] = {Kind.PRICE: 1_000_000, Kind.CPU: 1_000, Kind.SHARE: 1_000}
_UNITS: Mapping[Kind, Mapping[str, Fraction]] = {
    Kind.NUMBER: {"": Fraction(1), "k": Fraction(1_000)},
    Kind.CPU: {"": Fraction(1), "m": Fraction(1, 1_000)},
    Kind.BYTES: {
        "": Fraction(1),
        "b": Fraction(1),
        **{letter: Fraction(1000**power) for power, letter in enumerate("kmgt", start=1)},
        **{
            letter + ending: Fraction(1024**power)
            for power, letter in enumerate("kmgt", start=1)
            for ending in ("b", "i", "ib")
        },
    },
    Kind.PRICE: {
        "": Fraction(1),
        "/h": Fraction(1),
        "/hour": Fraction(1),
        "/day": Fraction(1, 24),
        "/month": Fraction(1, 730),
    },
    Kind.TIME: {
        "": Fraction(1),
        "ms": Fraction(1),
        "s": Fraction(1_000),
        "m": Fraction(60_000),
        "h": Fraction(3_600_000),
        "d": Fraction(86_400_000),
    },
    Kind.SHARE: {"": Fraction(1), "%": Fraction(1, 100)},
}
_NUMBER = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)([a-z/%]*)", re.IGNORECASE | re.ASCII)


def read_amount(kind: Kind, text: str) -> Number | None:
    """`text` as a number in the smallest unit of `kind`; None if it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > bounds.QUERY_NUMBER_CHARACTERS:
        return None
    unit = _UNITS[kind].get(match[2].lower())
    if unit is None:
        return None
    found = Fraction(match[1].replace("_", "")) * unit * kind.scale
    return found.numerator if found.denominator == 1 else found  # whole numbers are compared fastest


_PROVIDER = (
    Field(name="provider", kind=Kind.TEXT, meaning="its address, fond1..., or the name it declares"),
    Field(name="region", kind=Kind.TEXT, meaning="where it says that it stands"),
    Field(name="audited", kind=Kind.TEXT, meaning="who attests its attributes, by address or known name"),
    Field(name="attestations", kind=Kind.NUMBER, meaning="live attestations it carries"),
    Field(name="leases", kind=Kind.NUMBER, meaning="leases it serves now"),
    Field(name="outages", kind=Kind.NUMBER, meaning="leases of it that ended by its fault"),
    Field(name="uptime.1d", kind=Kind.SHARE, meaning="of the last day, how much it was alive"),
    Field(name="uptime.7d", kind=Kind.SHARE, meaning="of the last week"),
    Field(name="uptime.30d", kind=Kind.SHARE, meaning="of the last 30 days"),
    Field(name="latency.p50", kind=Kind.TIME, meaning="half of the probes were answered within"),
    Field(name="latency.p95", kind=Kind.TIME, meaning="95 of 100 probes were answered within"),
    Field(name="latency.p99", kind=Kind.TIME, meaning="99 of 100 probes were answered within"),
    Field(name="tee", kind=Kind.TEXT, meaning="confidential computing it offers: tdx, sev-snp, sgx"),
    Field(name="retiring", kind=Kind.FLAG, meaning="whether it takes no new leases"),
)
_RESOURCES = (
    Field(name="cpu", kind=Kind.CPU, meaning="processors"),
    Field(name="memory", kind=Kind.BYTES, meaning="memory"),
    Field(name="storage", kind=Kind.BYTES, meaning="storage of all classes"),
    Field(name="gpu.units", kind=Kind.NUMBER, meaning="GPUs"),
    Field(name="gpu.model", kind=Kind.TEXT, meaning="models of GPU: h100, a100, ..."),
    Field(name="gpu.vendor", kind=Kind.TEXT, meaning="their makers"),
    Field(name="gpu.ram", kind=Kind.BYTES, meaning="memory of one GPU"),
    Field(name="gpu.interface", kind=Kind.TEXT, meaning="pcie, sxm, ..."),
)
PROVIDERS = Schema("providers", _PROVIDER)
OFFERS = Schema(
    "offers",
    (*_PROVIDER, *_RESOURCES, Field(name="price", kind=Kind.PRICE, meaning="of what is looked for, as offered")),
)
BIDS = Schema(
    "bids",
    (
        *_PROVIDER,
        *_RESOURCES,
        Field(name="price", kind=Kind.PRICE, meaning="of the whole group"),
        Field(name="notice", kind=Kind.TIME, meaning="given before resources are taken back"),
        Field(name="expires", kind=Kind.TIME, meaning="from now until the bid lapses"),
    ),
)
