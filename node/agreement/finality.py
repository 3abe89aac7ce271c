"""How long heights take, as this node sees it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fondaco.node.timings import LONG_S, Timings


@dataclass(slots=True)
class Finality:
    """How long this node's heights took, newest last."""

    commit_ms: deque[int] = field(default_factory=lambda: deque(maxlen=1_000))
    """From the header's time, when its proposer began, to the commit here."""
    decided: int = 0
    """How many heights that were; those fetched from peers are not among them."""

    rounds: int = 0
    """How many rounds those took; one each where nobody failed."""
    took: Timings = field(default_factory=lambda: Timings(LONG_S))
    """The same as `commit_ms`, of all of them."""

    def note(self, took_ms: int, *, round: int = 0) -> None:
        """A height was decided, in this round."""
        self.commit_ms.append(took_ms)
        self.decided += 1
        self.rounds += round + 1
        self.took.note(took_ms / 1_000)
