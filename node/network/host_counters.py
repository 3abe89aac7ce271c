"""What a host counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class HostCounters:
    """What happened since the start, for metrics."""

    connected: int = 0
    disconnected: int = 0
    dial_failures: int = 0
    streams_in: int = 0
    streams_out: int = 0
    streams_over_limit: int = 0
    handler_errors: int = 0
    """Handlers that raised what is neither a peer's fault nor ours to answer: bugs."""
    peer_faults: int = 0
    bans: int = 0
    """Of peers whose faults were too many; those by hand are not among them."""
    drops: int = 0
    silent: int = 0
    """Connections cut because no ping came back."""
