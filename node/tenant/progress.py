"""What a tenant's long steps tell while they go on, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of progress."""

    step: str
    """`funds`, `order`, `answer`, `choice`, `lease`, `manifest`, `probe`, `running`, ..."""
    detail: str


Report = Callable[[Progress], None]


def quiet(progress: Progress) -> None:
    """Report to nobody."""


@dataclass(slots=True)
class Timeline:
    """Milliseconds from the order's publication to each thing that followed; the first time counts."""

    started: float | None = None
    marks: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        self.started = time.monotonic()
        self.marks.clear()

    def mark(self, what: str) -> None:
        if self.started is not None and what not in self.marks:
            self.marks[what] = round((time.monotonic() - self.started) * 1_000)
