"""The provider's own life: orders answered, leases served, money withdrawn; and a restart that changes nothing.

Three things go on beside each other: orders come and are answered (`bids`), blocks come and leases begin and end
(`leases`), and every so often what was earned is withdrawn. The ledger as this node has verified it is the only
authority. The reservations of bids, and the hand-offs, are on disk; workloads are found again in the runtime.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import trio

from fondaco.protocol import codec, limits
from fondaco.protocol.book.bounds import OFFER_EVERY_MS, OFFER_LIFE_MS
from fondaco.protocol.errors import Malformed, Refused, Unreachable
from fondaco.protocol.market import SignedOrder
from fondaco.protocol.messages import Alive, Withdraw
from fondaco.protocol.offers import OfferLine
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import Height, LeaseId, Millis, OrderId
from fondaco.protocol.signing import Signer
from fondaco.provider import snapshot
from fondaco.provider.bids import AgentConfig, Bidder
from fondaco.provider.handoffs import HandOffStore, StoredHandOff, write_durably
from fondaco.provider.lease_events import EventStore
from fondaco.provider.leases import LeaseWork, Services
from fondaco.provider.ports import ChainView, Market, Sealer
from fondaco.provider.probes import persistently
from fondaco.provider.reconcile import Plan, reconcile
from fondaco.provider.runtimes.port import Runtime, parse_workload_id
from fondaco.provider.together import closing

log = logging.getLogger("fondaco.provider")
ALIVE_RETRY_S = 10.0
ORDERS_AT_ONCE = 4
"""That wait for a program's price."""
OFFER_LOOK_S = 15.0
OFFER_AGAIN_MS = OFFER_LIFE_MS // 3
LEASE_WAIT_S = 3.0
"""A tenant may know of its lease a few blocks before its provider does."""


class Agent:
    """One provider. `run` it; a `Gateway` over it serves its tenants."""

    def __init__(
        self,
        config: AgentConfig,
        signer: Signer,
        *,
        chain: ChainView,
        market: Market,
        runtime: Runtime,
        sealer: Sealer,
        home: Path,
    ) -> None:
        self.config = config
        self.signer = signer
        self.chain = chain
        self.runtime = runtime
        self.inventory = config.books()
        self._market = market
        self._home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = HandOffStore(home / "handoffs")
        self._bidder = Bidder(config, signer, chain, market, self.inventory)
        self.events = EventStore(home / "events")
        self._services = Services(
            chain=chain,
            runtime=runtime,
            sealer=sealer,
            store=self._store,
            events=self.events,
            slots=trio.CapacityLimiter(limits.HANDOFFS_AT_ONCE),
        )
        self._works: dict[LeaseId, LeaseWork] = {}
        self._stored: dict[LeaseId, StoredHandOff] = {}
        self._nursery: trio.Nursery | None = None
        self._swept = False
        self._saved: list[snapshot.Plain] = []
        self._saving = trio.Lock()

    async def run(self, task_status: trio.TaskStatus[Plan] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; reports the reconciliation once the leases of before are being served again.

        The chain view must have caught up. Cancelling leaves every workload running.
        """
        self._restore()
        async with trio.open_nursery() as nursery:
            plan = await self._reconcile(nursery)
            nursery.start_soon(self._follow_chain)
            nursery.start_soon(self._answer_orders)
            nursery.start_soon(self._offer)
            if self.config.undercut is not None:
                nursery.start_soon(self._compete)
            nursery.start_soon(self._withdraw)
            nursery.start_soon(self._stay_alive)
            task_status.started(plan)

    # --- Looking, for the gateway

    @property
    def started(self) -> bool:
        """Whether the leases of before a restart are known yet."""
        return self._nursery is not None

    def work(self, lease: LeaseId) -> LeaseWork | None:
        """The work on a lease of ours that is not closed."""
        if lease not in self._works:
            self.look()
        return self._works.get(lease)

    async def await_lease(self, lease: LeaseId) -> Lease | None:
        """The ledger's record, waiting a little for one that is not in our view yet."""
        with trio.move_on_after(LEASE_WAIT_S):
            height = self.chain.height
            while self.chain.lease(lease) is None:
                height = await self.chain.wait_above(height)
        return self.chain.lease(lease)

    # --- Blocks

    async def _follow_chain(self) -> None:
        height = Height(-1)
        while True:
            height = await self.chain.wait_above(height)
            self.look()
            await self._sweep()
            await self._save()

    def look(self) -> None:
        """Bring the works and the books in line with the chain as it is now."""
        if self._nursery is None:
            return
        for lease in self.chain.leases_of(self.signer.public_key):
            if lease.id not in self._works:
                self._bidder.won(lease)
                self._begin(lease, self._nursery)
        for work in self._works.values():
            record = self.chain.lease(work.id)
            if record is None or record.state is LeaseState.CLOSED:
                work.close()
        self._bidder.let_go()

    def _begin(self, lease: Lease, nursery: trio.Nursery) -> None:
        work = LeaseWork(self._services, lease.id, self._stored.pop(lease.id, None))
        self._works[lease.id] = work
        nursery.start_soon(self._see_through, work, lease)

    async def _see_through(self, work: LeaseWork, lease: Lease) -> None:
        await work.run()
        self._bidder.over(lease)
        del self._works[lease.id]

    # --- Coming back

    async def _reconcile(self, nursery: trio.Nursery) -> Plan:
        self._stored = await trio.to_thread.run_sync(self._store.all)
        plan = await persistently(self._plan, partial(log.warning, "waiting for what runs workloads: %s"))
        for what, leases in (("adopted", plan.adopt), ("started again", plan.restart), ("stopped", plan.stop)):
            for lease in leases:
                log.info(f"after a restart: {what}", extra={"lease": lease.hex()})
        # Not before: a lease taken up without its stored hand-off would wait for its tenant for ever.
        self._nursery = nursery
        self.look()
        await self._sweep()
        return plan

    async def _plan(self) -> Plan:
        running = {
            parsed[0]
            for workload in await self.runtime.list()
            if (parsed := parse_workload_id(workload.id)) is not None
        }
        return reconcile(
            leased={lease.id for lease in self.chain.leases_of(self.signer.public_key)} | set(self._works),
            handed_over={lease: stored.height for lease, stored in self._stored.items()},
            running=running,
            height=self.chain.height,
        )

    async def _sweep(self) -> None:
        """Tear down what an earlier run left and nobody leases; once, or when the view has become new enough."""
        if self._swept and not self._stored:
            return
        try:
            plan = await self._plan()
        except Unreachable as error:
            log.warning("not swept yet", extra={"code": error.code})
            return
        for lease in plan.stop:
            work = LeaseWork(self._services, lease)
            work.close()
            await work.run()
            self._stored.pop(lease, None)
        self._swept = True

    def _restore(self) -> None:
        path = self._home / "reservations"
        try:
            saved = snapshot.from_plain(codec.unpack(path.read_bytes()))
        except FileNotFoundError:
            return
        except Malformed as error:
            # Leases lead back to their reservations by themselves; only those of open bids are forgotten.
            log.error("the reservations cannot be read", extra={"code": error.code})
            return
        for homeless in self.inventory.restore(saved):
            log.error("a reservation no longer fits", extra={"reservation": homeless.id.hex()})

    async def _save(self) -> None:
        async with self._saving:
            plain = snapshot.to_plain(self.inventory.reservations)
            if plain == self._saved:
                return
            try:
                await trio.to_thread.run_sync(write_durably, self._home / "reservations", codec.pack(plain))
                self._saved = plain
            except OSError as error:
                # Serving goes on: after a crash only the reservations of open bids would be forgotten.
                log.error("the reservations cannot be written: %s", error)

    # --- Orders and money

    async def _answer_orders(self) -> None:
        """One after the other; several beside each other where each has to wait for a program's price."""
        if self.config.program is None:
            async with closing(self._market.orders()) as orders:
                async for order_id, signed in orders:
                    await self._answer(order_id, signed)
            return
        room = trio.Semaphore(ORDERS_AT_ONCE)
        async with closing(self._market.orders()) as orders, trio.open_nursery() as nursery:
            async for order_id, signed in orders:
                await room.acquire()
                nursery.start_soon(self._answer, order_id, signed, room)

    async def _answer(self, order_id: OrderId, signed: SignedOrder, room: trio.Semaphore | None = None) -> None:
        try:
            await self._bidder.answer(order_id, signed.order)
            await self._save()
        finally:
            if room is not None:
                room.release()

    async def _offer(self) -> None:
        """Tell what is free whenever it has changed, though not too often, and before the last offer expires."""
        told: tuple[OfferLine, ...] = ()
        told_at = Millis(0)
        while True:
            now = self.chain.now()
            signed = self._bidder.offer()
            due = now >= told_at + OFFER_AGAIN_MS or (
                signed.offer.lines != told and now >= told_at + OFFER_EVERY_MS
            )
            if due and not self.chain.retiring(self.signer.public_key):
                try:
                    await self._market.publish_offer(signed)
                    told, told_at = signed.offer.lines, now
                except (Refused, Unreachable) as error:
                    log.warning("offer not published", extra={"code": error.code})
            await trio.sleep(OFFER_LOOK_S)

    async def _compete(self) -> None:
        async with closing(self._market.bids()) as bids:
            async for bid in bids:
                await self._bidder.compete(bid)
                await self._save()

    async def _stay_alive(self) -> None:
        """While anything is served the ledger hears of us, or nothing of it would be paid."""
        while True:
            wait_s = self.chain.alive_every_ms() / 1000
            if self._active():
                try:
                    await self.chain.submit((Alive(),))
                except (Refused, Unreachable) as error:
                    log.warning("the sign of life was not taken", extra={"code": error.code})
                    wait_s = min(wait_s, ALIVE_RETRY_S)
            await trio.sleep(wait_s)

    async def _withdraw(self) -> None:
        while True:
            await trio.sleep(self.config.withdraw_interval_ms / 1000)
            await self.withdraw()

    async def withdraw(self) -> None:
        """Take what every active lease has earned so far."""
        active = self._active()
        for start in range(0, len(active), limits.TX_MESSAGES):
            batch = active[start : start + limits.TX_MESSAGES]
            try:
                await self.chain.submit(tuple(Withdraw(lease=lease) for lease in batch))
            except (Refused, Unreachable) as error:
                log.warning("withdrawal failed", extra={"leases": len(batch), "code": error.code})

    def _active(self) -> list[LeaseId]:
        leases = self.chain.leases_of(self.signer.public_key)
        return [lease.id for lease in leases if lease.state is LeaseState.ACTIVE]
