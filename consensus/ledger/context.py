"""What every message is applied in."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus.ledger.memo import Memo
from fondaco.consensus.ledger.state import State
from fondaco.protocol.events import Event
from fondaco.protocol.messages import OpenLease, ReplaceLease
from fondaco.protocol.scalars import ChainId, Height, Millis, OrderId, PublicKey
from fondaco.protocol.signing import Verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where and when a message is applied, and by whom."""

    chain: ChainId
    state: State
    events: list[Event]
    sender: PublicKey
    height: Height
    """Of the block."""
    now: Millis
    """The time of the block."""
    verify: Verify
    judged: Memo[OpenLease | ReplaceLease, OrderId]
    """See `Envelopes.judged`."""
