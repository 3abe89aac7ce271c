"""Random words of auditors, providers and an issuer, for a fuzzed market."""

from __future__ import annotations

from random import Random

from tests.support.ledger import HOUR, MINUTE, Actor, Draft

from fondaco.protocol import limits
from fondaco.protocol.resources import Attribute, Placement
from fondaco.protocol.scalars import INT_MAX

VALUES = {"region": ("eu", "us"), "tier": ("gold", "lead")}
LIVES_MS = (0, 1, 1_000, MINUTE, HOUR, limits.ATTESTATION_LIFE_MS, INT_MAX // 2)


def stated(random: Random) -> tuple[tuple[str, str], ...]:
    """Attributes that a provider may state."""
    return tuple((key, random.choice(values)) for key, values in VALUES.items() if random.random() < 0.8)


def asked(random: Random, auditors: list[Actor]) -> Placement:
    """Mostly nothing."""
    named = tuple(one.key for one in random.sample(auditors, random.randrange(3)))
    attributes = tuple(Attribute(key=key, value=value) for key, value in stated(random))
    if random.random() < 0.8:
        return Placement(attributes=(), all_of=(), any_of=())
    return Placement(attributes=attributes, all_of=named[:1], any_of=named[1:])


def word(random: Random, people: list[Actor]) -> Draft:
    """Something said about trust or money by somebody, who may not say so."""
    who, provider, auditor = (random.choice(people) for _ in range(3))
    match random.randrange(6):
        case 0 | 1 | 2:
            return who.attests(provider, stated(random), for_ms=random.choice(LIVES_MS))
        case 3:
            return random.choice((auditor, provider, who)).revokes(provider, auditor)
        case 4:
            return random.choice((people[0], who)).mints(provider, random.choice((0, 1, 7_000, INT_MAX)))
        case _:
            return random.choice((people[0], who)).burns(random.choice((0, 1, 5_000, INT_MAX)))
