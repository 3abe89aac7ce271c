"""Which replica gets the next request: health, latency, load, weights and stickiness. Pure: no clock, no socket.

A replica is *up*, or *down* after `FALL` failures in a row. One that is down is tried again after a pause that
doubles, and is up again after `RISE` successes in a row. Among those that are up two are drawn, by weight, and the
one where less is waited takes the request: smoothed latency times what is under way there ("power of two choices",
Mitzenmacher 2001; finagle and linkerd weigh by peak latency likewise). Drawn with replacement, so that weights are
shares and a replica that was slow once is measured again.

Times are seconds of any one clock that does not go back.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

FALL = 2
"""Failures in a row that take a replica out."""
RISE = 2
"""Successes in a row that bring it back."""
PROBE_EVERY_S = 2.0
"""A replica that is up is probed when nothing succeeded on it for so long."""
PAUSE_S = (0.5, 15.0)
"""First and longest wait before one that is down is probed again."""
SMOOTHING_S = 10.0
"""How long a latency is remembered: after so long without being confirmed it weighs 1/e."""
UNKNOWN_MS = 1.0
"""Taken for one that was never measured: it is tried soon."""
DIGEST_BYTES = 8


class Health(enum.StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(slots=True)
class Standing:
    """What is known of one replica."""

    identity: str
    """Of the lease that serves it: another lease is another machine, of which nothing is known."""
    weight: int
    health: Health = Health.UP
    latency_ms: float | None = None
    """Smoothed; None before the first answer."""
    measured_at: float = 0.0
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""
    pause_s: float = PAUSE_S[0]
    probe_at: float = 0.0
    served: int = 0
    failed: int = 0
    """Requests, or connections, since the lease serves it; probes apart."""

    @property
    def cost(self) -> float:
        return (self.latency_ms or UNKNOWN_MS) * (self.in_flight + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A replica went up or down."""

    replica: str
    health: Health
    failures: int
    """In a row, that led to it."""


@dataclass(slots=True)
class Balancer:
    """Chooses among replicas by name; `begin`, `succeed` or `fail`, and `end` tell what became of each."""

    random: Callable[[], float]
    """Uniform in [0, 1)."""
    replicas: dict[str, Standing] = field(default_factory=dict)

    def update(self, leases: Mapping[str, str], weights: Mapping[str, int], *, now: float) -> None:
        """These are the replicas from now on: name -> identity of the lease. What is known of the others goes.

        A weight that is not given is 1; a replica of weight 0 serves when no other one is up.
        """
        for name in self.replicas.keys() - leases.keys():
            del self.replicas[name]
        for name, identity in leases.items():
            known = self.replicas.get(name)
            if known is None or known.identity != identity:
                self.replicas[name] = Standing(identity=identity, weight=weights.get(name, 1), probe_at=now)
            else:
                known.weight = weights.get(name, 1)

    def pick(self, *, tried: Collection[str] = (), wanted: str = "", key: str = "") -> str | None:
        """A replica, but for those that were tried; None if all were.

        `wanted`: the one that served this client before. `key`: of a client that is to come to the same replica
        each time. Where none is up, one that is down is still better than none.
        """
        left = {name: one for name, one in self.replicas.items() if name not in tried}
        up = {name: one for name, one in left.items() if one.health is Health.UP}
        for group in (
            {name: one for name, one in up.items() if one.weight},
            up,
            {name: one for name, one in left.items() if one.weight},
            left,
        ):
            if group:
                if wanted in group:
                    return wanted
                return rendezvous(key, group) if key else self._of_two(group)
        return None

    def _of_two(self, group: Mapping[str, Standing]) -> str:
        first, second = self._draw(group), self._draw(group)
        return first if group[first].cost <= group[second].cost else second

    def _draw(self, group: Mapping[str, Standing]) -> str:
        weights = [(name, _weight(one)) for name, one in sorted(group.items())]
        left = self.random() * sum(weight for _, weight in weights)
        for name, weight in weights:
            left -= weight
            if left < 0:
                return name
        return weights[-1][0]

    def begin(self, name: str) -> Standing:
        """A request, or a connection, goes to this replica: hand what is returned back by the others."""
        standing = self.replicas[name]
        standing.in_flight += 1
        return standing

    def end(self, standing: Standing) -> None:
        """Nothing is under way any more, however it ended."""
        standing.in_flight -= 1

    def succeed(
        self, name: str, standing: Standing, latency_ms: float, *, now: float, probe: bool = False
    ) -> Change | None:
        """The replica answered after so long."""
        if not probe:
            standing.served += 1
        standing.failures = 0
        standing.successes += 1
        standing.probe_at = now + PROBE_EVERY_S
        _measure(standing, latency_ms, now)
        if standing.health is Health.DOWN and standing.successes >= RISE:
            standing.health = Health.UP
            standing.pause_s = PAUSE_S[0]
            return Change(replica=name, health=Health.UP, failures=0)
        if standing.health is Health.DOWN:
            standing.probe_at = now  # once more, and at once
        return None

    def fail(self, name: str, standing: Standing, *, now: float, probe: bool = False) -> Change | None:
        """The replica could not be reached, or broke off."""
        if not probe:
            standing.failed += 1
        standing.successes = 0
        standing.failures += 1
        if standing.health is Health.DOWN:
            standing.probe_at = now + standing.pause_s * (0.75 + self.random() / 2)
            standing.pause_s = min(2 * standing.pause_s, PAUSE_S[1])
            return None
        standing.probe_at = now
        if standing.failures < FALL:
            return None
        standing.health = Health.DOWN
        standing.probe_at = now + standing.pause_s
        return Change(replica=name, health=Health.DOWN, failures=standing.failures)

    def due(self, *, now: float) -> list[str]:
        """Replicas that are to be probed now."""
        return [name for name, one in self.replicas.items() if one.probe_at <= now]

    def next_due(self) -> float:
        """When the next one is; `inf` without replicas."""
        return min((one.probe_at for one in self.replicas.values()), default=math.inf)

    def up(self) -> int:
        return sum(one.health is Health.UP for one in self.replicas.values())


def _weight(one: Standing) -> int:
    return one.weight or 1  # those of weight 0 are only drawn among themselves


def _measure(standing: Standing, latency_ms: float, now: float) -> None:
    """An exponentially weighted mean over time, which a worse value enters at once: one is slow at first sight."""
    before = standing.latency_ms
    if before is None or latency_ms > before:
        standing.latency_ms = latency_ms
    else:
        old = math.exp(-max(0.0, now - standing.measured_at) / SMOOTHING_S)
        standing.latency_ms = before * old + latency_ms * (1 - old)
    standing.measured_at = now


def rendezvous(key: str, group: Mapping[str, Standing]) -> str:
    """The same replica for the same key, as long as it is there; of the others' keys, none moves when one goes.

    Highest random weight (Thaler and Ravishankar 1998), in its weighted form.
    """

    def score(name: str) -> float:
        digest = hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=DIGEST_BYTES).digest()
        uniform = (int.from_bytes(digest, "big") + 1) / (1 << 8 * DIGEST_BYTES)
        return -_weight(group[name]) / math.log(uniform) if uniform < 1 else math.inf

    return max(sorted(group), key=score)


def parse_weights(words: Iterable[str]) -> dict[str, int]:
    """`NAME=WEIGHT` each. Raises `ValueError` for anything else."""
    found = {}
    for word in words:
        name, sign, weight = word.rpartition("=")
        if not (sign and name and weight.isascii() and weight.isdigit() and int(weight) <= WEIGHT):
            raise ValueError(word)
        found[name] = int(weight)
    return found


WEIGHT = 1_000
"""The largest weight of a replica."""
