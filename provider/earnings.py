"""What leases have earned is taken every so often, and what this node does not need goes where its key is not.

A provider's key signs bids and signs of life all day, on a machine that is reachable: whoever takes the machine
has what the key holds. So an operator names an account whose key lies elsewhere, and keeps here what fees need.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import trio

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.messages import Transfer, Withdraw
from fondaco.protocol.records import LeaseState
from fondaco.protocol.scalars import LeaseId, MicroCredits, Millis, PublicKey
from fondaco.provider.ports import ChainView

log = logging.getLogger("fondaco.provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Where earnings go, and when."""

    to: PublicKey
    keep: MicroCredits
    """Stays in the provider's account, for fees."""
    least: MicroCredits
    """Less than this is not moved."""


class Earnings:
    """Takes and moves what one provider earns; `run` it."""

    def __init__(self, chain: ChainView, key: PublicKey, *, every_ms: Millis, sweep: Sweep | None = None) -> None:
        self._chain = chain
        self._key = key
        self._every_ms = every_ms
        self._sweep = sweep
        self.withdrawals = 0
        """Of leases, since the start."""
        self.failures = 0
        """Of transactions to withdraw or to move what was earned."""
        self.swept = 0
        """Micro-credits moved since the start."""

    async def run(self) -> None:
        """Until cancelled. The schedule is block time's: a restart neither hurries nor delays it."""
        await trio.sleep(self._first_pause_s())
        while True:
            await self.withdraw()
            await self.sweep()
            await trio.sleep(self._every_ms / 1_000)

    def _first_pause_s(self) -> float:
        now = self._chain.now()
        counted = [
            lease.accrued_to for lease in self._chain.leases_of(self._key) if lease.activated_at is not None
        ]
        waited_ms = now - min(counted, default=now)
        return max(0, self._every_ms - waited_ms) / 1_000

    async def withdraw(self) -> None:
        """Take what every active lease has earned so far."""
        active = self._active()
        for start in range(0, len(active), limits.TX_MESSAGES):
            batch = active[start : start + limits.TX_MESSAGES]
            try:
                await self._chain.submit(tuple(Withdraw(lease=lease) for lease in batch))
                self.withdrawals += len(batch)
            except (Refused, Unreachable) as error:
                self.failures += 1
                log.warning("withdrawal failed", extra={"leases": len(batch), "code": error.code})

    async def sweep(self) -> None:
        """Move what is above what stays here, if it is worth a fee."""
        sweep = self._sweep
        if sweep is None:
            return
        amount = MicroCredits(self._chain.credits(self._key) - sweep.keep)
        if amount < max(1, sweep.least):
            return
        try:
            await self._chain.submit((Transfer(to=sweep.to, amount=amount),))
        except (Refused, Unreachable) as error:
            self.failures += 1
            log.warning("earnings were not moved", extra={"ucredit": amount, "code": error.code})
        else:
            self.swept += amount
            log.info("earnings moved", extra={"ucredit": amount})

    def _active(self) -> list[LeaseId]:
        leases = self._chain.leases_of(self._key)
        return [lease.id for lease in leases if lease.state is LeaseState.ACTIVE]
