"""While an escrow is dry nothing is paid, so nothing runs: its workloads are held still until it is topped up.

They keep what they have, memory included, for the grace that the ledger gives: a deposit within it sets them going
where they were; its end closes the lease, and they are torn down as after any. The ledger is looked at with each
block, and what runs all the same, because it was started again, every few seconds.
"""

from __future__ import annotations

import logging

import trio

from fondaco.protocol.channel_calls import Happening
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.records import LeaseState
from fondaco.protocol.scalars import Height, LeaseId, PublicKey
from fondaco.provider.lease_events import EventStore
from fondaco.provider.ports import ChainView
from fondaco.provider.runtimes.port import Runtime, WorkloadId, parse_workload_id

log = logging.getLogger("fondaco.provider")
AGAIN_S = 5.0
CANNOT = "runtime.pause"


class Grace:
    """Holds the workloads of one provider's leases while their escrow is dry; `run` it."""

    def __init__(self, chain: ChainView, key: PublicKey, runtime: Runtime, events: EventStore) -> None:
        self._chain = chain
        self._key = key
        self._runtime = runtime
        self._events = events
        self._held: set[LeaseId] | None = None
        """None before the first look: a run before this one may have held any."""
        self._cannot = False
        """The runtime has said that it cannot hold workloads."""

    def check(self, lease: LeaseId) -> None:
        """Raises `Refused` `lease.paused` while a lease's workloads are held."""
        if self.holds(lease):
            raise Refused("lease.paused", "the escrow is dry, and the workload is held", hint="fondaco top-up")

    def holds(self, lease: LeaseId) -> bool:
        return self._held is not None and lease in self._held

    async def run(self) -> None:
        """Until cancelled."""
        height = Height(-1)
        while True:
            await self.look()
            with trio.move_on_after(AGAIN_S):
                height = await self._chain.wait_above(height)

    async def look(self) -> None:
        """Bring workloads in line with what the ledger says of their escrow."""
        ours = [one.id for one in self._chain.leases_of(self._key) if one.state is LeaseState.ACTIVE]
        dry = {lease for lease in ours if self._chain.dry(lease)}
        before = set(ours) if self._held is None else self._held
        if not dry and not before:
            self._held = set()
            return
        try:
            workloads = [(one.id, parse_workload_id(one.id)) for one in await self._runtime.list()]
        except (Refused, Unreachable) as error:
            log.warning("workloads cannot be looked at", extra={"code": error.code})
            return
        again = (before - dry) & set(ours)
        for workload, named in workloads:
            if named is not None and named[0] in dry | again:
                await self._set(workload, hold=named[0] in dry)
        if self._held is not None:
            for lease in sorted(dry - self._held):
                self._tell(lease, Happening.HELD, "the escrow is dry")
            for lease in sorted(again):
                self._tell(lease, Happening.RESUMED, "the escrow was topped up")
        self._held = dry

    async def _set(self, workload: WorkloadId, *, hold: bool) -> None:
        try:
            await (self._runtime.pause(workload) if hold else self._runtime.resume(workload))
        except (Refused, Unreachable) as error:
            if self._cannot and error.code == CANNOT:
                return
            self._cannot = error.code == CANNOT
            log.warning("a workload was not held or set going", extra={"workload": workload, "code": error.code})

    def _tell(self, lease: LeaseId, what: Happening, why: str) -> None:
        log.info("workloads %s: %s", what.value, why, extra={"lease": lease.hex()})
        self._events.of(lease).add(what, why)
