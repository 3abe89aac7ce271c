"""How long heights take, as this node sees it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Finality:
    """How long this node's heights took, newest last."""

    commit_ms: deque[int] = field(default_factory=lambda: deque(maxlen=1_000))
    """From the header's time, when its proposer began, to the commit here."""
    decided: int = 0
    """How many heights that were; those fetched from peers are not among them."""

    def note(self, took_ms: int) -> None:
        self.commit_ms.append(took_ms)
        self.decided += 1
