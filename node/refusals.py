"""Refusals by their code, for metrics."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from fondaco.protocol.errors import PeerFault, Refused

Refusals = Counter[str]
"""Code -> how often. Codes are words of our own, so there are never many."""


@contextlib.contextmanager
def counting(refusals: Refusals) -> Iterator[None]:
    """What is refused within is counted and goes on its way."""
    try:
        yield
    except (PeerFault, Refused) as error:
        refusals[error.code] += 1
        raise
