"""A supervisor keeps the replicas of a service up: looks at each, mends what is broken, pays what runs out.

    async with Supervisor(tenant, "app", settings, report=print) as supervisor:
        await supervisor.run()

What it decides is in `supervision`, how it looks in `watching`. It can be killed at any moment: what it must not
forget is on disk before it acts, what it did is read from the ledger, and the ledger takes one replacement of a
lease and no second one. One supervisor of a service runs at a time, by a lock in the service's folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import trio

from fondaco.node import clock
from fondaco.node.files import DirectoryLock
from fondaco.node.tenant import changing, owning, records, replicas, services
from fondaco.node.tenant.choosing import Choice, choice_again
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import LeaseHandle
from fondaco.node.tenant.plans import Plan
from fondaco.node.tenant.progress import Progress
from fondaco.node.tenant.services import REGION
from fondaco.node.tenant.supervision import (
    Act,
    Condition,
    Decision,
    Least,
    Memory,
    Settings,
    attempted,
    decide,
    money,
    note,
    top_up,
)
from fondaco.node.tenant.supervisor_file import Remembered, load, save
from fondaco.node.tenant.wallet import TX_LIFE_MS
from fondaco.node.tenant.watching import SLACK_MS, Found, look
from fondaco.protocol import addresses, manifest
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.scalars import Millis

log = logging.getLogger("fondaco.tenant")
EVERY_S = 5.0
HURRY_S = 0.5
"""Between looks while a replica is broken."""
_BROKEN = {Condition.UNWELL, Condition.AWAY, Condition.AWAITING, Condition.ENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a replica, or that was done about it."""

    kind: str
    """`down`, `recovered`, `held`, `replacing`, `replaced`, `handing_over`, `ordering`, `ordered`, `topped_up`,
    `budget`, `failed`, `closed`."""
    replica: str
    at: Millis
    detail: str
    figures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "event": self.kind,
            "replica": self.replica,
            "time_ms": self.at,
            "detail": self.detail,
            **self.figures,
        }


Told = Callable[[Event], None]


def _quiet(event: Event) -> None:
    """Tell nobody."""


class Supervisor:
    """Of one service; an asynchronous context that holds its lock."""

    def __init__(
        self,
        tenant: Tenant,
        name: str,
        settings: Settings,
        *,
        every_s: float = EVERY_S,
        path: str = "/",
        report: Told = _quiet,
    ) -> None:
        self.tenant = tenant
        self.settings = replace(settings, every_ms=round(every_s * 1_000))
        self._every_s = every_s
        self._path = path
        self._report = report
        self._service = owning.find_service(tenant, name)
        self._lock: DirectoryLock | None = None
        self._remembered = Remembered()
        self._saved = Remembered()
        self._mending = set[str]()
        self._ordering = trio.Lock()
        """One is ordered at a time: where the next one may go depends on it."""
        self._wake = trio.Event()
        self._short = set[str]()
        """Replicas of which it was told that the budget does not cover them."""

    async def __aenter__(self) -> Self:
        """Raises `Refused` `home.in_use` if another supervisor has the service."""
        where = services.folder(self.tenant.home, self._service.name)
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = DirectoryLock(where)
        self._lock.acquire()
        self._remembered = self._saved = load(where)
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None
        self._lock.release()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                await self.round(nursery)
                hurry = any(one.condition in _BROKEN for one in self._remembered.replicas.values())
                with trio.move_on_after(min(HURRY_S, self._every_s) if hurry else self._every_s):
                    await self._wake.wait()

    async def round(self, nursery: trio.Nursery) -> None:
        """Look at every replica that nothing is done about just now; what is to be done goes on in `nursery`."""
        self._service = services.load(self.tenant.home, self._service.name) or self._service
        found: dict[str, Found] = {}
        keys = set[str]()

        async def one(key: str, file: records.DeploymentFile, place: int) -> None:
            found[key] = await look(self.tenant, file, place, path=self._path)

        async with trio.open_nursery() as looking:
            for replica, file in services.files(self._service, self.tenant.folder).items():
                for place, lease in enumerate(_distinct(file)):
                    key = replica if place == 0 else f"{replica}/{lease}"
                    keys.add(key)
                    if key not in self._mending:
                        looking.start_soon(one, key, file, place)
        known = {key: one for key, one in self._remembered.replicas.items() if key in keys}
        self._remembered = replace(self._remembered, replicas=known)
        for key in sorted(found):
            self._take(key, found[key], nursery)

    def _take(self, key: str, found: Found, nursery: trio.Nursery) -> None:
        before = self._memory(key)
        after, downtime = note(before, found.seen, self.settings)
        self._tell_difference(key, before, after, found, downtime)
        decision = decide(after, found.seen, self.settings)
        if decision.act is not Act.NOTHING:
            after = attempted(after, decision, found.seen)
        self._remember(key, after)
        if decision.act is not Act.NOTHING:
            self._mending.add(key)
            nursery.start_soon(self._mend, key, decision, found)
        elif found.seen.deployment is not None and "/" not in key and found.seen.proven:
            nursery.start_soon(self._pay, key, found)

    def _tell_difference(
        self, key: str, before: Memory, after: Memory, found: Found, downtime: Millis | None
    ) -> None:
        if downtime is not None:
            provider = addresses.encode(found.handle.file.provider)
            told = {"downtime_ms": downtime, "lease": found.handle.id, "provider": provider}
            self._say("recovered", key, f"was down for {downtime / 1_000:.1f} s", **told)
        elif after.condition is not before.condition and after.condition is not Condition.WELL:
            kind = after.condition.value if after.condition in (Condition.HELD, Condition.CLOSED) else "down"
            self._say(kind, key, f"{after.condition.value}: {found.seen.detail}".removesuffix(": "))

    def _remember(self, key: str, memory: Memory) -> None:
        self._remembered = replace(self._remembered, replicas={**self._remembered.replicas, key: memory})
        self._save()

    def _save(self) -> None:
        """Before what is remembered is acted upon; what is only counted waits for the next time."""
        if self._remembered.worth_saving(self._saved):
            save(services.folder(self.tenant.home, self._service.name), self._remembered)
            self._saved = self._remembered

    def _say(self, kind: str, key: str, detail: str, **figures: Any) -> None:
        log.info("%s: %s %s", key, kind, detail)
        at = Millis(clock.now())
        self._report(Event(kind=kind, replica=key, at=at, detail=detail, figures=figures))

    # Mending

    async def _mend(self, key: str, decision: Decision, found: Found) -> None:
        began = trio.current_time()
        try:
            match decision.act:
                case Act.HAND_OVER:
                    self._say("handing_over", key, decision.why)
                    await found.handle.deployment.hand_over_one(found.handle, self._progress(key))
                case Act.REPLACE:
                    self._say("replacing", key, decision.why)
                    changed = await self._replace(key, decision, found)
                    took_ms = round((trio.current_time() - began) * 1_000)
                    provider = addresses.encode(changed.file.provider)
                    told = {"lease": changed.id, "provider": provider, "instead_of": found.handle.id}
                    self._say("replaced", key, f"runs at {provider[:16]}", took_ms=took_ms, **told)
                case _:
                    self._say("ordering", key, decision.why)
                    await self._order(key)
        except FondacoError as error:
            self._say("failed", key, str(error), code=error.code)
        finally:
            self._mending.discard(key)
            self._wake.set()

    def _progress(self, key: str) -> Callable[[Progress], None]:
        return lambda progress: log.info("%s: %s %s", key, progress.step, progress.detail)

    async def _replace(self, key: str, decision: Decision, found: Found) -> LeaseHandle:
        async with self._ordering:
            await self._fill(key, found, replacing=True)
            replica = key.partition("/")[0]
            others = await replicas.providers(self.tenant, self._service, without=replica)
            chosen = replicas.apart(_choice(self._service), others)
            regions = (
                await replicas.regions_of(self.tenant, others) if self._service.spread == REGION else set[str]()
            )
            shunned = self._memory(key).shunned(clock.now())
            chosen = replicas.rather(chosen, regions=regions, shunned=shunned)
            changed = await changing.reassign(
                self.tenant, found.handle, reason=decision.reason, select=chosen, report=self._progress(key)
            )
        await changed.deployment.hand_over_one(changed, self._progress(key))
        return changed

    async def _order(self, key: str) -> None:
        """A replica whose deployment has ended is ordered anew, on the budget of the day."""
        async with self._ordering:
            service = services.load(self.tenant.home, self._service.name)
            if service is None:
                raise Refused("service.single", f"{key} has ended, and was deployed alone", hint="deploy it again")
            done = await replicas.deploy(
                self.tenant,
                services.load_sdl(self.tenant.home, service.name),
                name=service.name,
                count=service.count,
                spread=service.spread,
                select=_choice(service),
                deposit=service.deposit,
                only=key,
                confirm=self._afford,
                report=self._progress(key),
            )
        if key in done.lacking:
            raise done.lacking[key]
        if key in done.got:
            self._say("ordered", key, "runs again", lease=done.got[key].leases[0].id)

    def _afford(self, plan: Plan, _count: int) -> None:
        """Raises `Refused` `supervise.budget`."""
        deposit = plan.draft.signed.order.deposit
        left = self._remembered.spent.left(self.settings.budget, clock.now())
        if deposit > left:
            hint = "fondaco deploy, or a larger --budget"
            raise Refused("supervise.budget", f"{deposit} ucredit are needed, {left} are left today", hint=hint)
        self._spend(deposit)

    def _spend(self, amount: int) -> None:
        """Counted on disk before it is signed; back if it was refused."""
        spent = self._remembered.spent.add(amount, clock.now())
        self._remembered = replace(self._remembered, spent=spent)
        self._save()

    # Paying

    async def _pay(self, key: str, found: Found) -> None:
        """Top up where too little is left; what goes wrong is told, and tried again."""
        try:
            await self._fill(key, found)
        except FondacoError as error:
            self._say("failed", key, f"no top-up: {error}", code=error.code)

    async def _fill(self, key: str, found: Found, *, replacing: bool = False) -> None:
        deployment, now = found.seen.deployment, Millis(clock.now())
        if deployment is None or self.settings.runway_ms is None:
            return
        params = await self.tenant.wallet.params()
        least = Least(deposit=params.min_deposit, runway_ms=params.min_runway_ms)
        replica = key.partition("/")[0]
        if found.began < self._memory(replica).topped_until:
            return
        held, spent = money(deployment, list(found.leases), at=now), self._remembered.spent
        amount, short = top_up(deployment, held, self.settings, spent, now=now, least=least, replacing=replacing)
        if short and replica not in self._short:
            self._short.add(replica)
            left = spent.left(self.settings.budget, now)
            self._say("budget", replica, f"{left} ucredit are left of today's budget, which is too little")
        if not amount:
            return
        self._short.discard(replica)
        self._topped(replica, until=now + TX_LIFE_MS + SLACK_MS)  # longer than it can be under way
        self._spend(amount)
        try:
            after = await found.handle.deployment.top_up(amount)
        except Refused:
            self._topped(replica, until=clock.now())
            self._spend(-amount)
            raise
        self._topped(replica, until=clock.now())
        told = {"ucredit": amount, "state": after.state.name.lower()}
        self._say("topped_up", replica, f"{amount} ucredit more in its escrow", **told)

    def _memory(self, key: str) -> Memory:
        return self._remembered.replicas.get(key, Memory())

    def _topped(self, replica: str, *, until: int) -> None:
        """Looks from before then say nothing of what is in the escrow."""
        self._remember(replica, replace(self._memory(replica), topped_until=Millis(until)))


def _distinct(file: records.DeploymentFile) -> list[str]:
    """The groups of a deployment, in order, each once."""
    return list(dict.fromkeys(manifest.parse_group(one.manifest).name for one in file.leases))


def _choice(service: services.Service) -> Choice:
    return choice_again(service.select, service.where, service.vantages)
