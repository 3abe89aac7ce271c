"""Deployments that ended stay for `closed_kept_ms`, then leave the state with their leases, the oldest first.

A lease that ended before the rest of its deployment stays with it. What has left can still be proven, by the state
root of any header from the time before; there is one, since blocks forget before they handle what fell due.
"""

from __future__ import annotations

from collections.abc import Sequence

from fondaco.consensus.ledger.state import State
from fondaco.protocol.records import Deployment, Lease, key_closed, key_deployment, key_lease
from fondaco.protocol.scalars import DeploymentId, Millis

CLOSED = b"closed/"
"""Where the index starts; `records.key_closed` goes on from here."""


def file(state: State, deployment: DeploymentId, leases: Sequence[Lease]) -> None:
    """Note when a deployment ended: with the last of its leases, so that noting it again changes nothing."""
    state.put(key_closed(max(lease.closed_at or Millis(0) for lease in leases), deployment), deployment)


def forget(state: State, *, now: Millis, kept_ms: Millis, limit: int) -> None:
    """Drop what ended `kept_ms` ago or earlier, at most `limit` deployments."""
    for key, _ in state.scan_before(CLOSED, max(0, now - kept_ms + 1), limit):
        deployment = DeploymentId(key[len(CLOSED) + 8 :])
        for lease in state.require(key_deployment(deployment), Deployment).leases:
            state.put(key_lease(lease), None)
        state.put(key_deployment(deployment), None)
        state.put(key, None)
