"""What a supervisor makes of what it sees of one replica, and what it does about it. Pure: no clock, no socket.

A look at a replica says what the ledger holds, whether its provider answers on the channel, and whether the
workload answers the tenant's own probe. From that comes one of these:

| condition | means | what is done |
|---|---|---|
| `well` | the workload answers | nothing |
| `unwell` | it does not, its provider does | its provider's restarts have `unhealthy_ms`, then it is replaced |
| `away` | its provider does not answer | after `away_ms` and `MISSES` looks it is dead, and is replaced |
| `awaiting` | leased and not handed over | it is handed over |
| `held` | the escrow is dry, and the workload held | topped up where the budget allows it, never replaced |
| `pending` | nobody knows yet what became of a change | nothing, until that is known |
| `ended` | the lease has ended, by nobody's wish here | it is replaced, or ordered anew if its escrow is closed |
| `closed` | its tenant has closed it, or the ledger knows it no more | nothing, for good |
| `unknown` | no node of the network proves anything | nothing: then we are away, not they |

Times are wall-clock milliseconds, since they are kept over restarts of the supervisor.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from fondaco.consensus.ledger.escrow import HOUR_MS, funds_of, owed
from fondaco.protocol.reasons import CLOSED_BY_TENANT, NOT_SERVING
from fondaco.protocol.records import Deployment, DeploymentState, Lease, LeaseState
from fondaco.protocol.scalars import LeaseId, Millis, PublicKey

MISSES = 3
"""Looks in a row, of this run, that find a provider away before it is dead: a clock that jumps proves nothing."""
UNWATCHED_MS, UNWATCHED_LOOKS = 30_000, 3
"""Between two looks that are further apart than this, and than so many ought to be, nobody watched."""
HANDOVER_MS = 3_000
"""A lease that awaits its hand-off is left to whoever may be handing it over for so long."""
NEVER = Millis(0)
PAUSE_MS = (10_000, 300_000)
"""Between two attempts to mend the same replica: the first pause, which doubles, and the longest."""
SHUN_MS = 3_600_000
"""A provider that failed is the last choice for so long."""
FAILED_KEPT = 16
"""Of them, the newest."""
DAY_MS = 86_400_000


class Condition(enum.StrEnum):
    WELL = "well"
    UNWELL = "unwell"
    AWAY = "away"
    AWAITING = "awaiting"
    HELD = "held"
    PENDING = "pending"
    ENDED = "ended"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    away_ms: int = 15_000
    unhealthy_ms: int = 120_000
    runway_ms: tuple[int, int] | None = None
    """Topped up when less than the first is left, to the second; None for never."""
    every_ms: int = 5_000
    """Between looks at what is well."""
    budget: int = 0
    """Ucredit a day (UTC) that top-ups and new deposits may take together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at one replica."""

    at: Millis
    proven: bool = True
    """Whether the network proved what follows; else nothing is known."""
    deployment: Deployment | None = None
    lease: Lease | None = None
    pending: bool = False
    """A change was signed of which nobody can say yet whether the ledger took it."""
    reachable: bool = False
    """The provider answers on the channel."""
    answers: bool = False
    """The workload answers the tenant's probe."""
    detail: str = ""
    """For people: what was wrong."""

    @property
    def condition(self) -> Condition:
        if not self.proven:
            return Condition.UNKNOWN
        if self.pending:
            return Condition.PENDING
        lease, deployment = self.lease, self.deployment
        if lease is None or deployment is None:
            return Condition.CLOSED
        if lease.state is LeaseState.CLOSED:
            return Condition.CLOSED if lease.reason == CLOSED_BY_TENANT else Condition.ENDED
        if deployment.state is DeploymentState.GRACE:
            return Condition.HELD
        if lease.state is LeaseState.AWAITING:
            return Condition.AWAITING
        if self.answers:
            return Condition.WELL
        return Condition.UNWELL if self.reachable else Condition.AWAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one replica; all but what counts looks outlives the supervisor."""

    lease: LeaseId | None = None
    """The one that all of this but `down_since` and `attempts` is about."""
    condition: Condition = Condition.WELL
    since: Millis = NEVER
    """Of the condition."""
    down_since: Millis | None = None
    """The first look that found it not well; None while it is well."""
    unwell_since: Millis | None = None
    """The first look that found this lease active and not answering, since it did or was held."""
    away_since: Millis | None = None
    """The first look that found its provider away, since it answered."""
    looked_at: Millis = NEVER
    """The last look."""
    misses: int = 0
    """Looks in a row that found its provider away."""
    attempts: int = 0
    """To mend it, since it was well."""
    not_before: Millis = NEVER
    """The next attempt."""
    topped_until: Millis = NEVER
    """Looks that began before say nothing of the escrow: a deposit may be under way until then."""
    failed: dict[PublicKey, Millis] = field(default_factory=dict)
    """Providers that it was taken from, and when."""

    def shunned(self, now: int) -> set[PublicKey]:
        return {key for key, at in self.failed.items() if now - at < SHUN_MS}


class Act(enum.StrEnum):
    NOTHING = "nothing"
    HAND_OVER = "hand_over"
    REPLACE = "replace"
    ORDER = "order"
    """Anew: its deployment has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    act: Act = Act.NOTHING
    reason: int = NOT_SERVING
    """For the ledger's record of a replacement."""
    why: str = ""
    """For people."""


def note(memory: Memory, seen: Seen, settings: Settings) -> tuple[Memory, Millis | None]:
    """What is remembered after a look; and for how long, in ms, it was down if it is well again.

    Only time that was watched counts against a replica: not that in which we slept, or a clock jumped.
    """
    found, now = seen.condition, seen.at
    if found in (Condition.UNKNOWN, Condition.PENDING):
        return memory, None
    lease = seen.lease.id if seen.lease is not None else memory.lease
    unwatched = now - memory.looked_at > max(UNWATCHED_MS, UNWATCHED_LOOKS * settings.every_ms)
    memory = replace(memory, looked_at=now)
    if lease != memory.lease or unwatched:
        memory = replace(
            memory, lease=lease, misses=0, unwell_since=None, away_since=None, condition=Condition.WELL, since=now
        )
    if found is not memory.condition:
        memory = replace(memory, condition=found, since=now)
    if found is Condition.WELL:
        downtime = None if memory.down_since is None else Millis(max(0, now - memory.down_since))
        failed = {key: at for key, at in memory.failed.items() if now - at < SHUN_MS}
        well = replace(memory, down_since=None, unwell_since=None, away_since=None, misses=0, attempts=0)
        return replace(well, not_before=NEVER, failed=failed), downtime
    away = not seen.reachable and found is not Condition.HELD
    failing = found in (Condition.UNWELL, Condition.AWAY)
    return (
        replace(
            memory,
            misses=memory.misses + 1 if away else 0,
            down_since=_since(memory.down_since, now),
            unwell_since=_since(memory.unwell_since, now) if failing else None,
            away_since=_since(memory.away_since, now) if away else None,
        ),
        None,
    )


def _since(before: Millis | None, now: Millis) -> Millis:
    return now if before is None else before


def decide(memory: Memory, seen: Seen, settings: Settings) -> Decision:
    """What to do about a replica, once `note` has taken the look in."""
    found, now = seen.condition, seen.at
    if found in (Condition.WELL, Condition.HELD, Condition.PENDING, Condition.CLOSED, Condition.UNKNOWN):
        return Decision()
    if now < memory.not_before:
        return Decision()
    if found is Condition.ENDED:
        over = seen.deployment is None or seen.deployment.state is DeploymentState.CLOSED
        return Decision(act=Act.ORDER if over else Act.REPLACE, why="its lease has ended")
    away = now - _since(memory.away_since, now)
    if memory.misses >= MISSES and away >= settings.away_ms:
        return Decision(act=Act.REPLACE, why=f"its provider has been away for {away / 1_000:.1f} s")
    if found is Condition.AWAITING:
        waited = now - memory.since
        if waited >= settings.unhealthy_ms:
            return Decision(act=Act.REPLACE, why=f"it was not handed over within {waited / 1_000:.1f} s")
        handed_over = Decision(act=Act.HAND_OVER, why="it awaits its hand-off")
        return handed_over if waited >= HANDOVER_MS else Decision()
    unwell = now - _since(memory.unwell_since, now)
    if unwell >= settings.unhealthy_ms:
        return Decision(act=Act.REPLACE, why=f"it has not answered for {unwell / 1_000:.1f} s")
    return Decision()


def attempted(memory: Memory, decision: Decision, seen: Seen) -> Memory:
    """Before something is done: the next attempt waits longer, and who failed is remembered."""
    pause = min(PAUSE_MS[0] << min(memory.attempts, 16), PAUSE_MS[1])
    failed = dict(memory.failed)
    if decision.act in (Act.REPLACE, Act.ORDER) and seen.lease is not None:
        failed[seen.lease.provider] = seen.at
    return replace(
        memory, attempts=memory.attempts + 1, not_before=Millis(seen.at + pause), failed=dict(_newest(failed))
    )


def _newest(failed: dict[PublicKey, Millis]) -> list[tuple[PublicKey, Millis]]:
    return sorted(failed.items(), key=lambda one: one[1])[-FAILED_KEPT:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """How an escrow stands."""

    left: int
    """Ucredit, once what is owed by now is paid; below 0 where it is dry and debts are open."""
    rate: int
    """Ucredit an hour."""

    @property
    def runway_ms(self) -> int | None:
        """None where nothing accrues."""
        return max(0, self.left) * HOUR_MS // self.rate if self.rate else None


def money(deployment: Deployment, leases: list[Lease], *, at: Millis) -> Money:
    """An escrow as of a moment, taken that every provider has been there until then: never too much is left."""
    live = [one for one in leases if one.state is not LeaseState.CLOSED]
    rate = sum(one.price_per_hour for one in live)
    funds = funds_of(deployment.deposits)
    if deployment.state is DeploymentState.GRACE:
        return Money(left=funds - sum(one.debt for one in live), rate=rate)
    due = 0
    for lease in live:
        if lease.state is LeaseState.ACTIVE:
            shown = Millis(lease.reading + max(0, at - lease.accrued_to))
            due += owed(lease, lambda _provider, _at, shown=shown: shown, at=at)  # type: ignore[misc]
    return Money(left=funds - due, rate=rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the budget of a day has gone to; on disk before any of it is signed."""

    day: int = 0
    """Days since the epoch, UTC."""
    amount: int = 0
    """Ucredit."""

    def on(self, now: int) -> Spent:
        """As it counts at this moment."""
        return self if self.day == now // DAY_MS else Spent(day=now // DAY_MS)

    def left(self, budget: int, now: int) -> int:
        return max(0, budget - self.on(now).amount)

    def add(self, amount: int, now: int) -> Spent:
        today = self.on(now)
        return replace(today, amount=max(0, today.amount + amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """What the chain asks of a deposit."""

    deposit: int
    runway_ms: int
    """That an escrow must cover to go on after it was dry, and when a lease in it is replaced."""


def top_up(
    deployment: Deployment,
    held: Money,
    settings: Settings,
    spent: Spent,
    *,
    now: Millis,
    least: Least,
    replacing: bool = False,
) -> tuple[int, bool]:
    """How many ucredit to put in now, 0 for none; and whether more would be needed than the budget has left.

    What the budget does not cover whole is paid in as far as it goes, if that is a deposit and ends a grace. Where
    a lease is about to be replaced the escrow must hold the chain's least runway, whatever the window says.
    """
    window = settings.runway_ms
    if window is None or not held.rate:
        return 0, False
    runway, dry = held.runway_ms, deployment.state is DeploymentState.GRACE
    assert runway is not None, "there is a rate"
    if not dry and runway >= (max(window[0], least.runway_ms) if replacing else window[0]):
        return 0, False
    needed = max(least.deposit, _for(held, max(window[1], least.runway_ms)))
    amount = min(needed, spent.left(settings.budget, now))
    enough = _for(held, least.runway_ms) if dry else 1
    return (amount if amount >= max(least.deposit, enough) else 0), amount < needed


def _for(held: Money, runway_ms: int) -> int:
    return -(-held.rate * runway_ms // HOUR_MS) - held.left
