"""Wall time in milliseconds: the one place a node asks what time it is."""

from __future__ import annotations

import time

from fondaco.protocol.scalars import Millis


def now() -> Millis:
    """Milliseconds since the Unix epoch."""
    return Millis(time.time_ns() // 1_000_000)
