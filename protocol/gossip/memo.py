"""RPCs that were decoded lately, by their bytes.

What neighbours pass on they pass on unchanged, and one message an RPC: so the copies of a message, two or three
for each that is new, are the same bytes, and to read those again would cost more than all else that is done with
them.
"""

from __future__ import annotations

from collections import OrderedDict

from fondaco.protocol import limits
from fondaco.protocol.gossip import wire
from fondaco.protocol.gossip.wire import Rpc


class Memo:
    """Bounded in bytes, oldest out first; only what carries messages is kept."""

    def __init__(self, max_bytes: int = limits.GOSSIP_MEMO_BYTES) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes held, as they came."""
        self.hits = 0
        self._held: OrderedDict[bytes, Rpc] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def decode(self, data: bytes) -> Rpc:
        """As `wire.decode`, with its errors."""
        known = self._held.get(data)
        if known is not None:
            self.hits += 1
            return known
        rpc = wire.decode(data)
        if rpc.messages:
            self._held[data] = rpc
            self.size += len(data)
            while self.size > self.max_bytes:
                oldest, _ = self._held.popitem(last=False)
                self.size -= len(oldest)
        return rpc
