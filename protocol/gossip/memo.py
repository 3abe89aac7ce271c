"""RPCs that were decoded lately, by their bytes.

What neighbours pass on they pass on unchanged, and one message an RPC: so the copies of a message, two or three
for each that is new, are the same bytes, and to read those again would cost more than all else that is done with
them. Copies come soon after each other: what is older than two turns is of no more use.
"""

from __future__ import annotations

from fondaco.protocol import limits
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.wire import Rpc


class Memo:
    """Of this turn and the one before, half of the bytes each; only what carries messages is kept."""

    def __init__(self, max_bytes: int = limits.GOSSIP_MEMO_BYTES) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self._size = 0
        """Bytes of this turn, as they came."""
        self._held: dict[bytes, Rpc] = {}
        self._before: dict[bytes, Rpc] = {}

    def __len__(self) -> int:
        return len(self._held) + len(self._before)

    def decode(self, data: bytes) -> Rpc:
        """As `wire.decode`, with its errors."""
        known = self._held.get(data) or self._before.get(data)
        if known is not None:
            self.hits += 1
            return known
        rpc = wire.decode(data)
        if rpc.messages and len(data) <= self.max_bytes // 2:
            if self._size + len(data) > self.max_bytes // 2:
                self.turn()
            self._held[data] = rpc
            self._size += len(data)
        return rpc

    def turn(self) -> None:
        """Forget what came before the last turn; also done when this one is full."""
        self._held, self._before, self._size = {}, self._held, 0
