"""The versions of one lease's manifest: the one to run, and the one to go back to if that does not come up.

    take   a newer one is handed over: on disk, beside the one that runs
    settle it runs: from now on there is no way back from it
    go_back it did not come up: what ran before is the current one again, and no other is on the disk

Each step is on the disk before anything is started or stopped for it, so a provider that is killed anywhere in
between goes on with a version that was handed over, and still knows the other one if it may be needed.
"""

from __future__ import annotations

import logging

import trio

from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.attempts import Attempt
from fondaco.provider.handoffs import HandOffStore, Stored, StoredHandOff, StoredUpdate
from fondaco.provider.ports import ChainView

log = logging.getLogger("fondaco.provider")


class Versions:
    """Of one lease."""

    def __init__(self, lease: LeaseId, chain: ChainView, store: HandOffStore) -> None:
        self.current: Attempt | None = None
        """Being brought up, or running."""
        self.good: Attempt | None = None
        """What ran last."""
        self._failed: tuple[Attempt, FondacoError] | None = None
        """An update that did not come up, and why; who asked for it hears of it when its end is known."""
        self._lease = lease
        self._chain = chain
        self._store = store
        self._writing = trio.Lock()
        self._two_stored = False

    def resume(self, newer: Attempt, good: Attempt | None) -> None:
        """Go on with what is on the disk: the current version, and the one that ran if that is known."""
        self.current, self.good = newer, good
        self._two_stored = good is not None and good is not newer

    async def take(self, attempt: Attempt) -> None:
        """Make it the current one; durable on return. Raises `Refused` `provider.disk`."""
        before, self.current = self.current, attempt
        try:
            await self._write(attempt, self._older_than(attempt))
        except OSError as error:
            log.error("hand-off not stored: %s", error, extra={"lease": self._lease.hex()})
            if self.current is attempt:
                self.current = before
            refused = Refused("provider.disk", "the provider cannot store the hand-off", hint="try again later")
            attempt.finish(refused)
            raise refused from error
        superseded = Refused("manifest.superseded", f"version {attempt.version} takes its place")
        if before is not None:
            before.finish(superseded)
        self._tell(superseded)

    async def still(self, attempt: Attempt | None) -> bool:
        """Whether it is the current one, once whatever is being handed over is on the disk or refused."""
        async with self._writing:
            return self.current is attempt

    async def settle(self, attempt: Attempt) -> None:
        """It runs."""
        self.good = attempt
        if self._two_stored:
            await self._write_if_possible(attempt)

    def undone(self, attempt: Attempt) -> str:
        """If what runs is the way back from an update, tell who asked for that; in words, empty if it is none."""
        if self._failed is None:
            return ""
        update, error = self._failed
        what = f"version {update.version} did not come up: {error.message} [{error.code}]"
        still = f"version {attempt.version} runs as before"
        self._tell(Refused("update.rolled_back", f"{what}; {still}", hint="mend it, and update again"))
        return what

    async def go_back(self, attempt: Attempt, error: FondacoError) -> bool:
        """An update failed: make what ran before the current version again; False if nothing did."""
        older = self._older_than(attempt)
        if older is None:
            return False
        self.current = older.again()
        self._failed = attempt, error
        await self._write_if_possible(self.current)
        return True

    def try_again(self, attempt: Attempt, error: FondacoError) -> None:
        """It failed, and nothing else is there to go to."""
        attempt.finish(error)
        self.current = attempt.again()
        if self._failed is not None:
            update, first = self._failed
            both = f"{first.message} [{first.code}]; nor does the one before come up again yet: {error.message}"
            self._tell(Refused("update.failed", f"version {update.version} did not come up: {both}"))

    async def drop(self, attempt: Attempt) -> bool:
        """Forget what was handed over; False if a newer one has taken its place meanwhile."""
        async with self._writing:
            if self.current is not attempt:
                return False
            await trio.to_thread.run_sync(self._store.remove, self._lease)
            if self.current is attempt:
                self.current = self.good = None
        return await self.still(None)

    async def forget(self, error: FondacoError) -> None:
        """As if nothing had been handed over; who waits for it is told `error`. On the disk on return."""
        with trio.CancelScope(shield=True):
            async with self._writing:
                self.end(error)
                self.current = self.good = None
                await trio.to_thread.run_sync(self._store.remove, self._lease)

    def end(self, error: FondacoError) -> None:
        """Nothing of this lease will run any more."""
        if self.current is not None:
            self.current.finish(error)
        self._tell(error)

    def _older_than(self, attempt: Attempt) -> Attempt | None:
        return self.good if self.good is not None and self.good.version < attempt.version else None

    def _tell(self, error: FondacoError) -> None:
        if self._failed is not None:
            self._failed[0].finish(error)
            self._failed = None

    async def _write_if_possible(self, attempt: Attempt) -> None:
        try:
            await self._write(attempt, None)
        except OSError as error:
            # Both versions are on the disk still: a restart would try the newer one once more.
            log.error("hand-off not stored: %s", error, extra={"lease": self._lease.hex()})

    async def _write(self, attempt: Attempt, older: Attempt | None) -> None:
        """Unless another one is current by then. Shielded: others may have joined this attempt already."""
        with trio.CancelScope(shield=True):
            async with self._writing:
                if self.current is not attempt:
                    return
                stored: Stored = self._stored(attempt)
                if older is not None:
                    stored = StoredUpdate(newer=self._stored(attempt), older=self._stored(older))
                await trio.to_thread.run_sync(self._store.put, stored)
                self._two_stored = older is not None

    def _stored(self, attempt: Attempt) -> StoredHandOff:
        return StoredHandOff(
            lease=self._lease, height=self._chain.height, sealed=attempt.sealed, receipt=attempt.receipt
        )
