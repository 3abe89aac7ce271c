"""Random changes of running deployments, and random grants; a part of `ledger_fuzz`."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.support.ledger import HOUR, MINUTE, Actor, Draft, World

from fondaco.protocol.messages import Scope
from fondaco.protocol.records import Deployment, key_deployment
from fondaco.protocol.scalars import INT_MAX, DeploymentId, Hash


def change(chance: random.Random, world: World, deployment: DeploymentId, people: Sequence[Actor]) -> Draft:
    """Another manifest, or another provider."""
    record = world.ledger.state().get(key_deployment(deployment), Deployment)
    if record is None or chance.random() < 0.1:
        return chance.choice(people).updates(deployment, Hash(bytes(32)), group=chance.choice((0, 1, 5)))
    tenant = world.by_key[record.tenant]
    old = world.lease(chance.choice(record.leases))
    if chance.random() < 0.4:
        commitment = Hash(bytes((chance.randrange(3),)) * 32)
        return tenant.updates(deployment, commitment, group=old.group)
    price = chance.choice((7, 3_600, 3_600, 360_000, INT_MAX))
    reason = chance.choice((1, 2, 2, 10_000))
    commitments = (old.commitment,)
    return tenant.moves(
        deployment,
        chance.choice(people[2:]),
        price,
        group=old.group,
        reason=reason,
        commitments=commitments,
        template=record.template,
    )


def grant(chance: random.Random, people: Sequence[Actor], into: DeploymentId, amount: int) -> Draft:
    """Give, use or end a grant between two people."""
    one, other = chance.choice(people), chance.choice(people)
    dice = chance.random()
    if dice < 0.4:
        until = chance.choice((1, MINUTE, HOUR, HOUR))
        return one.grants(other, amount, scope=chance.choice(list(Scope)), for_ms=until)
    if dice < 0.5:
        return one.ends_grant(other)
    return one.deposits(into, amount, payer=other)
