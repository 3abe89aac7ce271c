"""What each neighbour may still ask of us."""

from __future__ import annotations

from collections import OrderedDict

from fondaco.protocol.scalars import Millis


class Allowance:
    """Of each peer a store that begins full, is drawn from, and fills again with time.

    It may go below nothing by one answer, whose size is not known before it is made; then it must fill first.
    """

    def __init__(self, *, full: int, per_second: int, peers: int) -> None:
        self.full = full
        self.per_second = per_second
        self.peers = peers
        """How many are remembered; of whom nothing is known has a full store."""
        self._left: OrderedDict[str, tuple[int, Millis]] = OrderedDict()
        """What there was, in thousandths, and when."""

    def __len__(self) -> int:
        return len(self._left)

    def has(self, peer: str, now: Millis) -> bool:
        """Whether there is anything left."""
        return self._now(peer, now) > 0

    def spend(self, peer: str, cost: int, now: Millis) -> None:
        self._left[peer] = (self._now(peer, now) - cost * 1_000, now)
        self._left.move_to_end(peer)
        if len(self._left) > self.peers:
            self._left.popitem(last=False)

    def _now(self, peer: str, now: Millis) -> int:
        left, then = self._left.get(peer, (self.full * 1_000, now))
        return min(self.full * 1_000, left + (now - then) * self.per_second)
