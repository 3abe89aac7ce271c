"""What has ended stays for `closed_kept_ms`, then leaves the state, the oldest first.

A deployment leaves with its leases: one that ended before the rest stays with it. A lease that was replaced is
named by no deployment any more, and leaves by itself. What has left can still be proven, by the state root of any
header from the time before; there is one, since blocks forget before they handle what fell due.
"""

from __future__ import annotations

from collections.abc import Sequence

from fondaco.consensus.ledger.state import State
from fondaco.protocol.records import Deployment, Lease, key_closed, key_deployment, key_lease
from fondaco.protocol.scalars import DeploymentId, LeaseId, Millis

CLOSED = b"closed/"
"""Where the index starts; `records.key_closed` goes on from here."""


def file(state: State, ended: DeploymentId | LeaseId, leases: Sequence[Lease]) -> None:
    """Note when it ended: with the last of its leases, so that noting it again changes nothing."""
    state.put(key_closed(max(lease.closed_at or Millis(0) for lease in leases), ended), ended)


def forget(state: State, *, now: Millis, kept_ms: Millis, limit: int) -> None:
    """Drop what ended `kept_ms` ago or earlier, at most `limit` deployments and replaced leases."""
    for key, _ in state.scan_before(CLOSED, max(0, now - kept_ms + 1), limit):
        ended = key[len(CLOSED) + 8 :]
        deployment = state.get(key_deployment(DeploymentId(ended)), Deployment)
        if deployment is None:
            state.put(key_lease(LeaseId(ended)), None)
        else:
            for lease in deployment.leases:
                state.put(key_lease(lease), None)
            state.put(key_deployment(deployment.id), None)
        state.put(key, None)
