"""What to do with what a restart finds: a pure comparison of ledger, disk and runtime.

The rule that must not break: a workload that is paid for is never torn down. So what is unknown is left alone,
and "the ledger does not know this lease" counts only from a view at least as new as the hand-off.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fondaco.protocol.scalars import Height, LeaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every lease found anywhere is in exactly one of these."""

    adopt: frozenset[LeaseId]
    """Leased, and running: taken over as they are."""
    restart: frozenset[LeaseId]
    """Leased and handed over, but nothing runs: started again."""
    wait: frozenset[LeaseId]
    """Leased, and not handed over yet."""
    stop: frozenset[LeaseId]
    """Running or handed over, and not leased: torn down and forgotten."""
    leave: frozenset[LeaseId]
    """This view of the chain is too old to tell; looked at again as it grows."""


def reconcile(
    *,
    leased: Collection[LeaseId],
    handed_over: Mapping[LeaseId, Height],
    running: Collection[LeaseId],
    height: Height,
) -> Plan:
    """Compare the ledger's live leases, the runtime, and the hand-offs on disk with the heights they are of."""
    live, there = frozenset(leased), frozenset(running)
    stored = frozenset(handed_over)
    orphans = (stored | there) - live
    newer = frozenset(lease for lease in orphans if handed_over.get(lease, 0) > height)
    return Plan(
        adopt=live & there,
        restart=(live & stored) - there,
        wait=live - stored - there,
        stop=orphans - newer,
        leave=newer,
    )
