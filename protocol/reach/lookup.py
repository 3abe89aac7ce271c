"""One search for a key: whom to ask next, and when it is over.

Always the nearest that were not asked yet, `bounds.KAD_PARALLEL` at a time; over, once the `bounds.KAD_BUCKET`
nearest of all that answered or may answer have been asked, or after `bounds.KAD_QUERIES` questions.
"""

from __future__ import annotations

from collections.abc import Iterable

from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import KadPeer
from fondaco.protocol.reach.table import position


class Lookup:
    """Its peers; `own` is never among them."""

    def __init__(self, own: bytes, key: bytes, seeds: Iterable[KadPeer]) -> None:
        self._there = position(key)
        self._peers: dict[bytes, KadPeer] = {}
        self._distance: dict[bytes, int] = {}
        self._own = own
        self._asked: set[bytes] = set()
        self._waiting: set[bytes] = set()
        self._failed: set[bytes] = set()
        self._add(seeds)

    def _add(self, peers: Iterable[KadPeer]) -> None:
        for peer in peers:
            if peer.id == self._own:
                continue
            known = self._peers.get(peer.id)
            if known is not None:  # a liar that is heard first must not hide where the peer really is
                both = dict.fromkeys((*known.addresses, *peer.addresses))
                peer = KadPeer(id=peer.id, addresses=tuple(both)[: bounds.KAD_ADDRESSES])
            self._peers[peer.id] = peer
            self._distance[peer.id] = position(peer.id) ^ self._there
        if len(self._peers) > bounds.KAD_HEARD:  # of the farther ones nobody would be asked
            for identity in sorted(self._distance, key=self._distance.__getitem__)[bounds.KAD_HEARD :]:
                del self._distance[identity], self._peers[identity]

    def _candidates(self) -> list[bytes]:
        alive = (one for one in self._distance if one not in self._failed)
        return sorted(alive, key=self._distance.__getitem__)[: bounds.KAD_BUCKET]

    def next(self) -> list[KadPeer]:
        """Whom to ask now; for each, `answered` or `failed` must follow."""
        free = min(bounds.KAD_PARALLEL - len(self._waiting), bounds.KAD_QUERIES - len(self._asked))
        chosen = [one for one in self._candidates() if one not in self._asked][: max(free, 0)]
        self._asked.update(chosen)
        self._waiting.update(chosen)
        return [self._peers[one] for one in chosen]

    def answered(self, peer: KadPeer, closer: Iterable[KadPeer]) -> None:
        self._waiting.discard(peer.id)
        self._add(list(closer)[: bounds.KAD_BUCKET])

    def failed(self, peer: KadPeer) -> None:
        self._waiting.discard(peer.id)
        self._failed.add(peer.id)

    def closest(self) -> list[KadPeer]:
        """Those that answered, the nearest first."""
        done = self._asked - self._waiting - self._failed
        return [self._peers[one] for one in self._candidates() if one in done]
