"""The messages of the last few heartbeats: what IHAVE offers and IWANT is answered from."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from fondaco.protocol.gossip.effects import MessageId, Peer
from fondaco.protocol.gossip.wire import Message

ENTRY_BYTES = 512
"""What holding a message takes besides its data, about: or tiny ones would be held by the million."""


@dataclass(slots=True)
class _Entry:
    message: Message
    sent: Counter[Peer] = field(default_factory=Counter)
    """How often it was sent to whom on demand."""


class MessageCache:
    """Sliding windows, one a heartbeat, bounded in bytes besides: then the oldest goes first."""

    def __init__(self, *, windows: int, gossip_windows: int, max_bytes: int) -> None:
        """Kept for `windows` heartbeats, offered in the first `gossip_windows`: the rest is time to ask."""
        self.gossip_windows = gossip_windows
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes held, with what each message takes besides."""
        self._entries: OrderedDict[MessageId, _Entry] = OrderedDict()
        self._windows: deque[list[MessageId]] = deque(([] for _ in range(windows)), maxlen=windows)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, identity: MessageId, message: Message) -> None:
        """Hold a message that is good; one that is held already stays where it is."""
        if identity in self._entries:
            return
        self._entries[identity] = _Entry(message)
        self._windows[0].append(identity)
        self.size += ENTRY_BYTES + len(message.data)
        while self.size > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def ask(self, identity: MessageId, peer: Peer) -> tuple[Message, int] | None:
        """The message, and how often `peer` has asked for it by now; None if it is not held."""
        entry = self._entries.get(identity)
        if entry is None:
            return None
        entry.sent[peer] += 1
        return entry.message, entry.sent[peer]

    def offered(self, topic: str) -> list[MessageId]:
        """Ids of a topic to gossip about."""
        entries = self._entries
        recent = [identity for window in list(self._windows)[: self.gossip_windows] for identity in window]
        return [one for one in recent if one in entries and entries[one].message.topic == topic]

    def shift(self) -> None:
        """A heartbeat is over: a new window opens, the last one is forgotten."""
        for identity in self._windows[-1]:
            if identity in self._entries:
                self._drop(identity)
        self._windows.appendleft([])

    def _drop(self, identity: MessageId) -> None:
        self.size -= ENTRY_BYTES + len(self._entries.pop(identity).message.data)
