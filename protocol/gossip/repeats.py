"""Neighbours that say again what everybody knows, more often than an honest one can.

An honest neighbour says a message once. So what one repeats of others' in a minute is no more than all there was
in a minute, and some slack for copies it was asked for and for what it said before we remember. Beyond that every
so many repetitions are a misdeed.
"""

from __future__ import annotations

from collections import Counter, deque

from fondaco.protocol.gossip.effects import Peer

BEATS = 60
"""Heartbeats for which what is new counts."""
STEPS = 8
"""Misdeeds in as many repetitions as the slack has."""


class Repeats:
    """A debt for each neighbour; it shrinks by what is new."""

    def __init__(self, slack: int) -> None:
        self.slack = slack
        self._debts: Counter[Peer] = Counter()
        self._fresh = 0
        self._earlier: deque[int] = deque(maxlen=BEATS)
        self._lately = 0

    def fresh(self) -> None:
        """A message came that was new."""
        self._fresh += 1

    def again(self, peer: Peer) -> bool:
        """`peer` said something that was not; whether that is a misdeed."""
        self._debts[peer] += 1
        if self._debts[peer] <= self.slack + self._lately + self._fresh:
            return False
        self._debts[peer] -= self.slack // STEPS
        return True

    def stale(self, peer: Peer) -> bool:
        """What `peer` said seemed `fresh`, and holds nothing new; whether that is a misdeed."""
        self._fresh = max(0, self._fresh - 1)
        return self.again(peer)

    def forget(self, peer: Peer) -> None:
        del self._debts[peer]

    def heartbeat(self) -> None:
        paid = self._fresh + self.slack // BEATS
        self._debts = Counter({peer: debt - paid for peer, debt in self._debts.items() if debt > paid})
        self._earlier.append(self._fresh)
        self._fresh, self._lately = 0, sum(self._earlier)
