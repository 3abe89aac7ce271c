"""Signatures checked in threads, so that whoever waits for the event loop does not wait for them.

PyNaCl lets go of the interpreter while it checks one (60 us), so threads use other cores. It must be got back for
each: where the event loop computes without a pause, a thread gets it once in `SWITCH_S`, which is set to less
than Python's 5 ms.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

import trio

from fondaco.consensus.ledger.envelope import Envelopes, Read
from fondaco.node.timings import Timings
from fondaco.protocol import limits
from fondaco.protocol.errors import PeerFault, Refused
from fondaco.protocol.scalars import PublicKey, Signature
from fondaco.protocol.signing import Verify, verify

SWITCH_S = 0.0002
THREADS = max(2, (os.cpu_count() or 1))
"""Checking at once, of all who ask; more than cores would only take turns."""
Claim = tuple[PublicKey, bytes, Signature]


def share_interpreter() -> None:
    """For a process that runs nodes."""
    sys.setswitchinterval(SWITCH_S)


class Verifier:
    """Checks the signatures of transactions and tells `envelopes` of those that hold."""

    def __init__(self, envelopes: Envelopes, check: Verify = verify) -> None:
        self._envelopes = envelopes
        self._check = check
        self._threads = trio.CapacityLimiter(THREADS)
        self.waited = Timings()
        """How long signatures waited for a thread to check them."""

    def holds(self, read: Read) -> bool:
        """Check one here and now."""
        good = read.statement is None or self._check(*read.claim(read.statement))
        if good:
            self._envelopes.remember(read)
        return good

    async def hold(self, reads: Sequence[Read]) -> list[bool]:
        """Which of these signatures hold, in their order."""
        claims = {
            place: read.claim(read.statement) for place, read in enumerate(reads) if read.statement is not None
        }
        good = [True] * len(reads)
        for place, holds in zip(claims, await self._judge(list(claims.values())), strict=True):
            good[place] = holds
        for read, holds in zip(reads, good, strict=True):
            if holds:
                self._envelopes.remember(read)
        return good

    def knows(self, raws: Iterable[bytes]) -> bool:
        """Whether nearly all of these were found good before: to open them takes no time to speak of."""
        unknown = 0
        for raw in raws:
            unknown += not self._envelopes.holds(raw)
            if unknown > limits.VERIFIED_INLINE:
                return False
        return True

    async def warm(self, raws: Iterable[bytes]) -> None:
        """Check what is not known of these, so that whoever opens them next need not. Faults are left to them."""
        reads = list[Read]()
        for raw in raws:
            if self._envelopes.holds(raw):
                continue
            try:
                reads.append(self._envelopes.read(raw))
            except (PeerFault, Refused):
                return  # whoever opens them will find the same and say it
            if len(reads) >= THREADS * limits.VERIFIED_AT_ONCE:
                await self.hold(reads)
                reads.clear()
        await self.hold(reads)

    async def _judge(self, claims: Sequence[Claim]) -> list[bool]:
        if len(claims) <= limits.VERIFIED_INLINE:
            return self._all(claims)
        answers: dict[int, list[bool]] = {}

        async def judge(first: int) -> None:
            part = claims[first : first + size]
            asked = time.perf_counter()
            began, answers[first] = await trio.to_thread.run_sync(self._all_in_turn, part, limiter=self._threads)
            self.waited.note(began - asked)

        size = limits.VERIFIED_AT_ONCE
        async with trio.open_nursery() as nursery:
            for first in range(0, len(claims), size):
                nursery.start_soon(judge, first)
        return [holds for first in sorted(answers) for holds in answers[first]]

    def _all_in_turn(self, claims: Sequence[Claim]) -> tuple[float, list[bool]]:
        """In a thread; with the moment it began."""
        return time.perf_counter(), self._all(claims)

    def _all(self, claims: Sequence[Claim]) -> list[bool]:
        return [self._check(*claim) for claim in claims]
