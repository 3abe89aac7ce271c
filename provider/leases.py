"""One lease at its provider, from the hand-off to the teardown.

    waiting -> deploying -> activating -> running -> closing -> closed
       ^___________|____________|  (refused before activation: all stopped, the tenant hears why and may try again)

A newer manifest, once the ledger knows its version, may be handed over at any time: what it says otherwise, or not
at all, is stopped when its images are here, and deploying begins again. All else runs on.

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
from fondaco.protocol.channel_calls import Happening, PutManifest, ServiceStatus, Status, Step
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.messages import Activate, CloseLease, Reclaim
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.attempts import Attempt
from fondaco.provider.handoffs import HandOffStore, StoredHandOff
from fondaco.provider.lease_events import EventStore
from fondaco.provider.ports import ChainView, Sealer
from fondaco.provider.probes import Restarts, persistently, probe_all, watch_all
from fondaco.provider.runtimes.port import (
    Runtime,
    State,
    Workload,
    WorkloadId,
    WorkloadSpec,
    parse_workload_id,
)
from fondaco.provider.together import run_all
from fondaco.provider.usage import Traffic, TrafficOf
from fondaco.provider.workloads import open_hand_off, specs_of

log = logging.getLogger("fondaco.provider")
RETRY_S = (1.0, 30.0)
"""First and longest pause between attempts."""
ATTEMPTS = 3
"""Failed attempts to bring a paid workload back, after which the provider offers to end the lease."""


class Phase(enum.StrEnum):
    WAITING = "waiting"
    DEPLOYING = "deploying"
    ACTIVATING = "activating"
    RUNNING = "running"
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

    def __init__(self, services: Services, lease: LeaseId, stored: StoredHandOff | None = None) -> None:
        self.id = lease
        self.phase = Phase.WAITING
        self._services = services
        self._stored = stored
        self._attempt: Attempt | None = None
        self._handed_over = trio.Event()
        self._round = trio.CancelScope()
        """Cancelled when a newer manifest is handed over."""
        self._open = trio.CancelScope()
        self._over = False
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
        before = self._attempt
        if before is not None and before.version >= attempt.version:
            return before
        self._attempt = attempt
        stored = StoredHandOff(
            lease=self.id, height=self._services.chain.height, sealed=put.sealed, receipt=put.receipt
        )
        # Shielded: others may have joined this attempt already.
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._services.store.put, stored)
        except OSError as error:
            self._attempt = before
            self._log(f"hand-off not stored: {error}", code="provider.disk")
            refused = Refused("provider.disk", "the provider cannot store the hand-off", hint="try again later")
            attempt.finish(refused)
            raise refused from error
        if before is not None:
            before.finish(Refused("manifest.superseded", f"version {attempt.version} takes its place"))
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
        return Attempt(group=group, receipt=receipt)

    def _accept(self, attempt: Attempt) -> None:
        attempt.say(Step.ACCEPTED, f"{len(attempt.group.services)} services, {attempt.group.name!r}")
        self._handed_over.set()

    def close(self) -> None:
        """The ledger says that the lease is over: leave off, and tear down."""
        self._over = True
        self._open.cancel()

    async def status(self) -> Status:
        found = await self._workloads()
        detail = ""
        if self._attempt is not None and self._attempt.progress:
            detail = self._attempt.progress[-1].detail
        return Status(
            lease=self.id,
            phase=self.phase.value,
            detail=detail,
            services=tuple(
                ServiceStatus(
                    service=service,
                    replica=replica,
                    state=workload.state.value,
                    exit_code=workload.exit_code,
                    started_at=workload.started_at,
                    restarts=self._restarts.count(workload.id),
                    last_end=self._restarts.last(workload.id),
                )
                for workload, service, replica in found
            ),
        )

    def services(self) -> tuple[tuple[str, int], ...]:
        """Names and replicas of what was handed over."""
        if self._attempt is None:
            return ()
        return tuple((service.name, service.count) for service in self._attempt.group.services)

    # --- The work

    async def run(self) -> None:
        """From here to the end of the lease, teardown included; cancel it to leave everything running."""
        with self._open:
            await self._serve()
        attempt = self._attempt
        if attempt is not None:
            attempt.finish(Refused("lease.closed", "the lease ended"))
        await self._tear_down()

    async def _serve(self) -> None:
        if self._stored is not None:
            self._resume(self._stored)
        while True:
            await self._handed_over.wait()
            with trio.CancelScope() as self._round:
                await self._see_through()

    async def _see_through(self) -> None:
        """Bring up what was handed over last and keep it up, until that fails before its activation."""
        failures = 0
        while (attempt := self._attempt) is not None:
            specs = specs_of(self.id, attempt.group)
            try:
                await persistently(partial(self._come_up, attempt, specs), self._away)
                await self._activate(attempt)
            except (Refused, Unreachable) as error:
                failures += 1
                await self._failed(attempt, specs, error, failures)
                continue
            failures = 0
            self._set_phase(Phase.RUNNING)
            self._say(attempt, Step.RUNNING, f"{len(specs)} replicas run, and the lease is active")
            attempt.finish()
            await watch_all(self._services.runtime, specs, self._restarts, self.events)

    def _resume(self, stored: StoredHandOff) -> None:
        """Go on with what the provider before us was handed."""
        try:
            attempt = self._judge(stored.sealed, stored.receipt, stored=True)
        except Refused as error:
            # Left on the disk and running: whatever is wrong with it, it is paid for.
            log.error("the stored hand-off does not hold", extra={"lease": self.id.hex(), "code": error.code})
            return
        self._attempt = attempt
        self.events.add(Happening.ADOPTED, f"version {attempt.version}, after a restart of the provider")
        self._accept(attempt)

    async def _come_up(self, attempt: Attempt, specs: tuple[WorkloadSpec, ...]) -> None:
        async with self._services.slots:
            await self._bring_up(attempt, specs)

    async def _bring_up(self, attempt: Attempt, specs: tuple[WorkloadSpec, ...]) -> None:
        """Start everything that does not run yet, stop what is no more wanted, and probe all of it."""
        self._set_phase(Phase.DEPLOYING)
        runtime = self._services.runtime
        there = {workload.id: workload for workload, _, _ in await self._workloads()}
        missing = [spec for spec in specs if not _runs(there.get(spec.id), spec)]
        for image, login in dict.fromkeys((spec.image, spec.login) for spec in missing):
            self._say(attempt, Step.IMAGE, image)
            await runtime.prepare(image, login=login, report=attempt.counting(image))
        wanted = {spec.id for spec in specs} - {spec.id for spec in missing}
        await self._stop(tuple(workload for workload in there if workload not in wanted))
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
    ) -> None:
        self._log(f"attempt failed: {error.message}", code=error.code)
        self.events.add(Happening.FAILED, f"{error.message} [{error.code}]")
        record = self._record()
        if record is None or record.state is not LeaseState.ACTIVE:
            # All or nothing, and the tenant may hand over again until the window lapses.
            await persistently(partial(self._stop, tuple(spec.id for spec in specs)), self._away)
            await trio.to_thread.run_sync(self._services.store.remove, self.id)
            await trio.lowlevel.checkpoint_if_cancelled()  # a newer one may have been handed over meanwhile
            self._set_phase(Phase.WAITING)
            self._attempt, self._handed_over = None, trio.Event()
            attempt.finish(error)
            return
        attempt.finish(error)
        self._attempt = Attempt(group=attempt.group, receipt=attempt.receipt)
        if failures == ATTEMPTS:
            await self._offer_to_end()
        await trio.sleep(min(RETRY_S[1], RETRY_S[0] * 2 ** min(failures, 10)))

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
        pause = RETRY_S[0]
        while True:
            try:
                await self._stop(tuple(workload.id for workload, _, _ in await self._workloads()))
                await self._services.runtime.release(self.id)
                break
            except (Refused, Unreachable) as error:
                self._log("teardown failed, again soon", code=error.code)
                await trio.sleep(pause)
                pause = min(RETRY_S[1], 2 * pause)
        await trio.to_thread.run_sync(self._services.store.remove, self.id)
        self._set_phase(Phase.CLOSED)
        record = self._record()
        reason = None if record is None else record.reason
        self.events.add(Happening.CLOSED, "" if reason is None else reasons.describe(reason))
        self.events.close()

    async def _stop(self, workloads: tuple[WorkloadId, ...]) -> None:
        await run_all(partial(self._stop_one, workload) for workload in workloads)

    async def _stop_one(self, workload: WorkloadId) -> None:
        ended, named = await self._services.runtime.stop(workload), parse_workload_id(workload)
        if ended is not None and named is not None:
            self.events.add(Happening.STOPPED, service=named[1], replica=named[2], code=ended.exit_code)

    # --- Small things

    def _say(self, attempt: Attempt, step: Step, detail: str) -> None:
        attempt.say(step, detail)
        self.events.add(Happening(step.value), detail)

    def _away(self, why: str) -> None:
        self.events.add(Happening.AWAY, why)

    def _record(self) -> Lease | None:
        return self._services.chain.lease(self.id)

    async def _workloads(self) -> list[tuple[Workload, str, int]]:
        found = []
        for workload in await self._services.runtime.list():
            parsed = parse_workload_id(workload.id)
            if parsed is not None and parsed[0] == self.id:
                found.append((workload, parsed[1], parsed[2]))
        return found

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
