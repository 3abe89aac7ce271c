"""One lease at its provider, from the hand-off to the teardown.

    waiting -> deploying -> activating -> running -> closing -> closed
       ^___________|____________|  (refused before activation: all stopped, the tenant hears why and may try again)
       ^___________|____________|__________|  (stopped at the tenant's word: it may hand over again)

A newer manifest, once the ledger knows its version, may be handed over at any time: what it says otherwise, or not
at all, is stopped when its images are here, and deploying begins again. All else runs on. Should it not come up,
the version that ran before runs again (`versions`), and the tenant hears that.

The ledger decides when it is over: `close` is called when the provider's own view shows the lease closed, and only
then is anything torn down. Stopping the provider leaves workloads running; the next one adopts them.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass, replace
from functools import partial

import trio

from fondaco.protocol import reasons
from fondaco.protocol.channel_calls import HandedOver, Happening, PutManifest, ServiceStatus, Status, Step
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.messages import Activate, CloseLease, Reclaim
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.attempts import Attempt
from fondaco.provider.handoffs import HandOffStore, Stored, StoredHandOff, StoredUpdate
from fondaco.provider.lease_events import EventStore
from fondaco.provider.ports import ChainView, Sealer
from fondaco.provider.probes import Restarts, persistently, probe_all, watch_all
from fondaco.provider.runtimes.port import (
    Runtime,
    State,
    Workload,
    WorkloadSpec,
)
from fondaco.provider.stopping import RETRY_S, Leaving, replicas_of, stop, stop_everything
from fondaco.provider.usage import Traffic, TrafficOf
from fondaco.provider.versions import Versions
from fondaco.provider.workloads import open_hand_off, specs_of, unsealed

log = logging.getLogger("fondaco.provider")
ATTEMPTS = 3
"""Failed attempts to bring a paid workload back, after which the provider offers to end the lease."""


class Phase(enum.StrEnum):
    WAITING = "waiting"
    DEPLOYING = "deploying"
    ACTIVATING = "activating"
    RUNNING = "running"
    PAUSED = "paused"
    """As tenants are told of a lease that runs, while its escrow is dry."""
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every lease of a provider shares."""

    chain: ChainView
    runtime: Runtime
    sealer: Sealer
    store: HandOffStore
    events: EventStore
    slots: trio.CapacityLimiter
    """Hand-offs being brought up at once."""


class LeaseWork:
    """The work on one lease; `run` does it, the others look at it or feed it."""

    def __init__(self, services: Services, lease: LeaseId, stored: Stored | None = None) -> None:
        self.id = lease
        self.phase = Phase.WAITING
        self._services = services
        self._stored = stored
        self._versions = Versions(lease, services.chain, services.store)
        self._handed_over = trio.Event()
        self._round = trio.CancelScope()
        """Cancelled when a newer manifest is handed over."""
        self._open = trio.CancelScope()
        self._over = False
        self._leaving: Leaving | None = None
        self._restarts = Restarts()
        self.events = services.events.of(lease)
        self.traffic = TrafficOf(Traffic)
        self.followers = 0
        """Subscriptions to logs, events and usage open now."""

    # --- From outside

    async def hand_over(self, put: PutManifest) -> Attempt:
        """Take a manifest, or join the attempt under way for the same version. Durable before anything starts.

        Raises what `open_hand_off` and `specs_of` do, `lease.closed` and `provider.disk`.
        """
        attempt = self._judge(put.sealed, put.receipt)
        before = self._versions.current
        if before is not None and before.version >= attempt.version:
            return before
        await self._versions.take(attempt)
        if before is not None:
            self._round.cancel()
        what = Happening.HANDED_OVER if before is None else Happening.UPDATED
        self.events.add(what, f"version {attempt.version}")
        self._accept(attempt)
        return attempt

    def _judge(self, sealed: bytes, receipt: SignedReceipt, *, stored: bool = False) -> Attempt:
        services, record = self._services, self._record()
        if record is None or self._over:
            raise Refused("lease.closed", "the lease is over")
        # A receipt serves to activate the lease. What we stored outlives it: where the chain goes on as another,
        # the signature is one for the chain before.
        needed = not stored or record.activated_at is None
        said = receipt.receipt
        if stored and said.version < record.version:  # the tenant has not handed the newer one over yet
            record = replace(record, version=said.version, commitment=said.commitment)
        group = open_hand_off(services.chain.id, record, sealed, receipt, services.sealer, signature_counts=needed)
        specs_of(self.id, group)
        return Attempt(group=group, receipt=receipt, sealed=sealed)

    def _accept(self, attempt: Attempt) -> None:
        attempt.say(Step.ACCEPTED, f"{len(attempt.group.services)} services, {attempt.group.name!r}")
        self._handed_over.set()

    def close(self) -> None:
        """The ledger says that the lease is over: leave off, and tear down."""
        self._over = True
        self._open.cancel()

    async def status(self) -> Status:
        found = await replicas_of(self._services.runtime, self.id)
        attempt = self._versions.current
        detail = attempt.progress[-1].detail if attempt is not None and attempt.progress else ""
        return Status(
            lease=self.id,
            phase=self.phase.value,
            detail=detail,
            services=tuple(one.told(self._restarts) for one in found),
        )

    def services(self) -> tuple[tuple[str, int], ...]:
        """Names and replicas of what was handed over."""
        attempt = self._versions.current
        return () if attempt is None else tuple((one.name, one.count) for one in attempt.group.services)

    def handed_over(self) -> HandedOver:
        """What runs, or is being brought up. Raises `Refused` `manifest.none`."""
        attempt = self._versions.current
        if attempt is None:
            raise Refused("manifest.none", "nothing is handed over for this lease")
        hand_off = unsealed(attempt.sealed, self._services.sealer)
        return HandedOver(salt=hand_off.salt, manifest=hand_off.manifest, receipt=attempt.receipt)

    async def stop(self, grace_ms: int) -> tuple[ServiceStatus, ...]:
        """Stop everything, until something is handed over again; how it ended. A restart starts nothing either."""
        leaving = self._leaving
        if leaving is None:
            leaving = self._leaving = Leaving(grace_ms=grace_ms)
            self._handed_over.set()
            self._round.cancel()
        await leaving.done.wait()
        return leaving.ended

    # --- The work

    async def run(self) -> None:
        """From here to the end of the lease, teardown included; cancel it to leave everything running."""
        with self._open:
            await self._serve()
        self._versions.end(Refused("lease.closed", "the lease ended"))
        await self._tear_down()
        if self._leaving is not None:
            self._leaving.done.set()

    async def _serve(self) -> None:
        if self._stored is not None:
            self._resume(self._stored)
        while True:
            await self._handed_over.wait()
            with trio.CancelScope() as self._round:
                await self._see_through()
            if self._leaving is not None:
                await self._leave(self._leaving)

    async def _leave(self, leaving: Leaving) -> None:
        self._handed_over = trio.Event()
        # Forgotten first: whatever happens now, a restart starts nothing that was to stop.
        await self._versions.forget(Refused("lease.stopped", "the tenant has it stopped"))
        ended = await stop_everything(self._services.runtime, self.id, self.events, grace_ms=leaving.grace_ms)
        self.events.add(Happening.STOPPED, "all, at the tenant's word")
        leaving.ended = tuple(one.told(self._restarts) for one in ended)
        self._set_phase(Phase.WAITING)
        self._leaving = None
        leaving.done.set()

    async def _see_through(self) -> None:
        """Bring up what was handed over last and keep it up, until that fails before its activation."""
        failures = 0
        while (attempt := self._versions.current) is not None:
            specs = specs_of(self.id, attempt.group)
            try:
                await persistently(partial(self._come_up, attempt, specs), self._away)
                await self._activate(attempt)
            except (Refused, Unreachable) as error:
                failures = await self._failed(attempt, specs, error, failures + 1)
                continue
            failures = 0
            await self._versions.settle(attempt)
            self._set_phase(Phase.RUNNING)
            undone = self._versions.undone(attempt)
            if undone:
                self.events.add(Happening.ROLLED_BACK, f"version {attempt.version} runs again; {undone}")
            now = f"{len(specs)} replicas run, and the lease is active"
            self._say(attempt, Step.RUNNING, f"{now}; {undone}" if undone else now)
            attempt.finish()
            await watch_all(self._services.runtime, specs, self._restarts, self.events)

    def _resume(self, stored: Stored) -> None:
        """Go on with what the provider before us was handed."""
        older = None
        if isinstance(stored, StoredUpdate):
            older, stored = self._judge_stored(stored.older), stored.newer
        attempt = self._judge_stored(stored) or older
        if attempt is None:
            return
        record = self._record()
        ran = record is not None and record.activated_at is not None
        self._versions.resume(attempt, older or (attempt if ran else None))
        self.events.add(Happening.ADOPTED, f"version {attempt.version}, after a restart of the provider")
        self._accept(attempt)

    def _judge_stored(self, stored: StoredHandOff) -> Attempt | None:
        try:
            return self._judge(stored.sealed, stored.receipt, stored=True)
        except Refused as error:
            # Left on the disk and running: whatever is wrong with it, it is paid for.
            log.error("the stored hand-off does not hold", extra={"lease": self.id.hex(), "code": error.code})
            return None

    async def _come_up(self, attempt: Attempt, specs: tuple[WorkloadSpec, ...]) -> None:
        async with self._services.slots:
            await self._bring_up(attempt, specs)

    async def _bring_up(self, attempt: Attempt, specs: tuple[WorkloadSpec, ...]) -> None:
        """Start everything that does not run yet, stop what is no more wanted, and probe all of it."""
        self._set_phase(Phase.DEPLOYING)
        runtime = self._services.runtime
        there = {one.workload.id: one.workload for one in await replicas_of(runtime, self.id)}
        missing = [spec for spec in specs if not _runs(there.get(spec.id), spec)]
        for image, login in dict.fromkeys((spec.image, spec.login) for spec in missing):
            self._say(attempt, Step.IMAGE, image)
            await runtime.prepare(image, login=login, report=attempt.counting(image))
        wanted = {spec.id for spec in specs} - {spec.id for spec in missing}
        await stop(runtime, (workload for workload in there if workload not in wanted), self.events)
        await runtime.link(specs)
        for spec in missing:
            attempt.say(Step.STARTING, f"{spec.service} {spec.replica + 1}")
            await runtime.start(spec)
            self.events.add(Happening.STARTED, spec.image, service=spec.service, replica=spec.replica)
        self._say(attempt, Step.PROBING, f"{len(specs)} replicas")
        await probe_all(runtime, specs, attempt.group)

    async def _activate(self, attempt: Attempt) -> None:
        """Have the ledger start the lease; again until it has, for nobody pays before."""
        self._set_phase(Phase.ACTIVATING)
        chain = self._services.chain
        self._say(attempt, Step.ACTIVATING, "the ledger is told")
        while True:
            record = self._record()
            if record is None or record.state is LeaseState.CLOSED:
                raise Refused("lease.closed", "the lease ended before it was activated")
            if record.state is LeaseState.ACTIVE:
                return
            try:
                await chain.submit((Activate(receipt=attempt.receipt),))
            except Unreachable as error:
                self._log("activation not seen, sent again", code=error.code)
                await trio.sleep(RETRY_S[0])
            except Refused as error:
                # An activation from before a crash may have come first.
                if error.code != "lease.state":
                    raise
                await trio.sleep(RETRY_S[0])
            else:
                return

    async def _failed(
        self, attempt: Attempt, specs: tuple[WorkloadSpec, ...], error: FondacoError, failures: int
    ) -> int:
        """Do what is to be done about a failed attempt; how many have failed of what is tried next."""
        if not await self._versions.still(attempt):
            return 0
        self._log(f"attempt failed: {error.message}", code=error.code)
        self.events.add(Happening.FAILED, f"{error.message} [{error.code}]")
        record = self._record()
        if record is None or record.state is not LeaseState.ACTIVE:
            # All or nothing, and the tenant may hand over again until the window lapses.
            names = [spec.id for spec in specs]
            await persistently(partial(stop, self._services.runtime, names, self.events), self._away)
            if await self._versions.drop(attempt):
                self._set_phase(Phase.WAITING)
                self._handed_over = trio.Event()
            attempt.finish(error)
            return 0
        if await self._versions.go_back(attempt, error):
            return 0
        self._versions.try_again(attempt, error)
        if failures == ATTEMPTS:
            await self._offer_to_end()
        await trio.sleep(min(RETRY_S[1], RETRY_S[0] * 2 ** min(failures, 10)))
        return failures

    async def _offer_to_end(self) -> None:
        """Nobody should pay for what does not run; where notice was promised, this gives it."""
        record = self._record()
        promised = record is not None and record.reclamation_window_ms > 0
        message = (Reclaim if promised else CloseLease)(lease=self.id, reason=reasons.UNSTABLE)
        try:
            await self._services.chain.submit((message,))
        except (Refused, Unreachable) as error:
            self._log("could not end the lease", code=error.code)

    async def _tear_down(self) -> None:
        """Stop everything of this lease, also what no manifest of ours names."""
        self._set_phase(Phase.CLOSING)
        await stop_everything(self._services.runtime, self.id, self.events, release=True)
        await trio.to_thread.run_sync(self._services.store.remove, self.id)
        self._set_phase(Phase.CLOSED)
        record = self._record()
        reason = None if record is None else record.reason
        self.events.add(Happening.CLOSED, "" if reason is None else reasons.describe(reason))
        self.events.close()

    # --- Small things

    def _say(self, attempt: Attempt, step: Step, detail: str) -> None:
        attempt.say(step, detail)
        self.events.add(Happening(step.value), detail)

    def _away(self, why: str) -> None:
        self.events.add(Happening.AWAY, why)

    def _record(self) -> Lease | None:
        return self._services.chain.lease(self.id)

    def _set_phase(self, phase: Phase) -> None:
        self.phase = phase
        self._log(f"lease {phase.value}")

    def _log(self, what: str, **fields: str) -> None:
        log.info(what, extra={"lease": self.id.hex(), **fields})


def _runs(workload: Workload | None, spec: WorkloadSpec) -> bool:
    """Whether it runs, and is what is wanted."""
    if workload is None or workload.state not in (State.STARTING, State.RUNNING):
        return False
    return workload.definition in ("", spec.definition)
