"""When the ledger has something to do by itself: deployments in the order of their moments."""

from __future__ import annotations

from fondaco.consensus.ledger.state import State
from fondaco.protocol.scalars import DeploymentId, Millis

DUE = b"due/"
"""Where the index starts; `records.key_due` goes on from here."""


def next_moment(state: State) -> Millis | None:
    """The earliest; None if nothing is waiting."""
    first = state.scan(DUE, 1)
    return Millis(int.from_bytes(first[0][0][len(DUE) :][:8], "big")) if first else None


def overdue(state: State, *, now: Millis, limit: int) -> list[DeploymentId]:
    """What is due at `now` or before, the earliest first."""
    return [DeploymentId(key[len(DUE) + 8 :]) for key, _ in state.scan_before(DUE, now + 1, limit)]
