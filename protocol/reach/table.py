"""Whom a node knows by distance, and what others said of where they are.

Distance is the exclusive or of the SHA-256 of two keys
(https://pdos.csail.mit.edu/~petar/papers/maymounkov-kademlia-lncs.pdf).
A node knows many peers near itself and few far away; so every step of a search halves the distance at least.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import KadPeer

KEY_BITS = 256


def position(key: bytes) -> int:
    """Where `key` lies."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def nearest(peers: Iterable[KadPeer], key: bytes, count: int) -> list[KadPeer]:
    """So many of `peers`, the nearest to `key` first."""
    there = position(key)
    return sorted(peers, key=lambda peer: position(peer.id) ^ there)[:count]


class RoutingTable:
    """Peers that have answered, `bounds.KAD_BUCKET` at most for each power of two of distance.

    Who was there first stays while it answers: old peers live longer than new ones, and nobody can push them out.
    Of one network only a share fits in a bucket.
    """

    def __init__(self, own: bytes) -> None:
        self._own = own
        self._buckets: dict[int, dict[bytes, tuple[KadPeer, str]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def has(self, identity: bytes) -> bool:
        return identity in self._buckets.get(self._bucket(identity), {})

    def peers(self) -> list[KadPeer]:
        return [peer for bucket in self._buckets.values() for peer, _ in bucket.values()]

    def _bucket(self, identity: bytes) -> int:
        return (position(self._own) ^ position(identity)).bit_length()

    def answered(self, peer: KadPeer, network: str) -> bool:
        """`peer` is there, in `network`, empty where it is counted with none; whether it is in the table now.

        One without addresses keeps those that it had.
        """
        if peer.id == self._own:
            return False
        bucket = self._buckets.setdefault(self._bucket(peer.id), {})
        if peer.id not in bucket:
            near = sum(bool(network) and other == network for _, other in bucket.values())
            if len(bucket) >= bounds.KAD_BUCKET or near >= bounds.KAD_BUCKET_PER_NETWORK:
                return False
        elif not peer.addresses:
            peer = bucket[peer.id][0]
        bucket[peer.id] = (peer, network)
        return True

    def failed(self, identity: bytes) -> None:
        """It did not answer: another may have its place."""
        self._buckets.get(self._bucket(identity), {}).pop(identity, None)

    def closest(self, key: bytes, count: int = bounds.KAD_BUCKET) -> list[KadPeer]:
        return nearest(self.peers(), key, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    addresses: tuple[bytes, ...]
    network: str
    until: float


class Sayings:
    """What peers said of themselves: one saying each, so that nobody's weighs more than another's.

    A full store keeps what is nearest to the node, for there it is looked for. Times are the caller's seconds.
    """

    def __init__(self, own: bytes) -> None:
        self._here = position(own)
        self._said: dict[bytes, _Said] = {}
        self._networks: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._said)

    def say(self, identity: bytes, addresses: tuple[bytes, ...], network: str, now: float) -> bool:
        """Keep it until it is `bounds.KAD_SAYING_MS` old; whether there was room."""
        self._drop(identity)
        if network and self._networks[network] >= bounds.KAD_SAYINGS_PER_NETWORK:
            self._expire(now)
            if self._networks[network] >= bounds.KAD_SAYINGS_PER_NETWORK:
                return False
        if len(self._said) >= bounds.KAD_SAYINGS:
            self._expire(now)
        if len(self._said) >= bounds.KAD_SAYINGS:
            farthest = max((*self._said, identity), key=lambda one: position(one) ^ self._here)
            if farthest == identity:
                return False
            self._drop(farthest)
        until = now + bounds.KAD_SAYING_MS / 1000
        self._said[identity] = _Said(addresses=addresses, network=network, until=until)
        self._networks[network] += 1
        return True

    def of(self, identity: bytes, now: float) -> tuple[bytes, ...]:
        """Where it said to be; nothing if it has not, or long ago."""
        said = self._said.get(identity)
        return () if said is None or said.until <= now else said.addresses

    def _expire(self, now: float) -> None:
        for identity in [one for one, said in self._said.items() if said.until <= now]:
            self._drop(identity)

    def _drop(self, identity: bytes) -> None:
        said = self._said.pop(identity, None)
        if said is not None:
            self._networks[said.network] -= 1
            if not self._networks[said.network]:
                del self._networks[said.network]
