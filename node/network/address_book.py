"""Which peers there are and where: what is known beyond who is connected. Pure: time and chance come from outside.

A peer is *new* until we have reached it ourselves where it is said to be, and *tried* from then on. Being told of
peers is free, so the new ones are bounded by who told us and by the networks that they claim to be in; a tried
peer needs an address that works, so those are bounded by network alone. After the address manager of Bitcoin, with
counted shares in the place of hashed buckets:

- Where a source has its share, a further peer of it takes the place of one that failed, or none.
- Where a network is full, or the book, the source that fills most of it gives a place up: who floods, drives out
  itself.
- Whom to dial is drawn first by region (the /16), then within it: thousands of addresses of one are one lot.
- A tried peer that answered within hours keeps its place, whoever comes.

Heuristics, not proofs: who has addresses in many regions still gets in. But what worked before stays in sight.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence, Set

from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.known_peers import Entry, Source
from fondaco.node.network.localities import Reach, may_tell
from fondaco.node.network.peers import Address, PeerId, endpoint, peer_id_of, peer_of
from fondaco.protocol.errors import Refused
from fondaco.protocol.peer_record import PeerRecord

Class = tuple[str, str]
"""What is counted together: a kind and a value. The kind `new` or `tried` alone counts all."""
CAPS = {
    "new": bounds.NEW_PEERS,
    "new source": bounds.NEW_PER_SOURCE,
    "new region": bounds.NEW_PER_REGION,
    "new block": bounds.NEW_PER_BLOCK,
    "tried": bounds.TRIED_PEERS,
    "tried region": bounds.TRIED_PER_REGION,
    "tried block": bounds.TRIED_PER_BLOCK,
}


def _classes(entry: Entry, tried: bool) -> list[Class]:
    """All that `entry` counts to as a new or a tried one; near addresses count to no network."""
    word = "tried" if tried else "new"
    found = [(word, "")]
    if not tried:
        found.append(("new source", entry.share))
    if entry.region:
        found += [(f"{word} region", entry.region), (f"{word} block", entry.block)]
    return found


class AddressBook:
    """See the module. Nothing in it waits or writes; `changed` and `gone` say what is to be written."""

    def __init__(self, own: PeerId, *, seed: int) -> None:
        self.own = own
        self.changed: dict[PeerId, None] = {}
        """Entries that are not what was written last."""
        self.gone: dict[PeerId, None] = {}
        self._random = random.Random(seed)
        self._entries: dict[PeerId, Entry] = {}
        self._classes: dict[Class, dict[PeerId, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, peer: PeerId) -> Entry | None:
        return self._entries.get(peer)

    # Hearing of peers

    def learn_record(self, data: bytes, record: PeerRecord, source: Source, now: int) -> bool:
        """A signed record, already verified; whether it told anything new.

        One that is not newer than what is here changes nothing, whoever brings it.
        """
        peer = peer_id_of(record.public_key)
        known = self._entries.get(peer)
        if known is not None and record.seq <= known.seq:
            if source.name == peer and data == known.record:
                known.heard_ms = now
            return False
        addresses = self._usable(peer, record.texts(), source)
        if peer == self.own or not addresses:
            return False
        if known is None:
            entry = Entry(
                peer=peer, addresses=addresses, record=data, seq=record.seq, share=source.share, heard_ms=now
            )
            return self._add(entry)
        if known.addresses[0] in addresses:
            # What worked stays in front, and what the peer no longer names goes.
            addresses = (known.addresses[0], *(one for one in addresses if one != known.addresses[0]))
            known.addresses, known.record, known.seq, known.heard_ms = addresses, data, record.seq, now
            self.changed[peer] = None
            return True
        self._remove(known)
        moved = Entry(
            peer=peer,
            addresses=addresses,
            record=data,
            seq=record.seq,
            share=known.share,
            heard_ms=now,
            success_ms=known.success_ms,
        )
        if self._add(moved):
            return True
        self._add(known)
        return False

    def learn_address(self, address: Address, source: Source, now: int) -> bool:
        """Hearsay: somebody says that a peer is there. What the peer signed, or what worked, counts more."""
        peer = peer_of(address)
        known = self._entries.get(peer)
        addresses = self._usable(peer, [address], source)
        if peer == self.own or not addresses:
            return False
        if known is not None:
            if known.record or known.tried or not known.failures or addresses[0] in known.addresses:
                return False
            self._remove(known)
        return self._add(Entry(peer=peer, addresses=addresses, share=source.share, heard_ms=now))

    @staticmethod
    def _usable(peer: PeerId, texts: Iterable[str], source: Source) -> tuple[Address, ...]:
        """Those we could dial, and that `source` may tell us of."""
        found: dict[Address, None] = {}
        for text in texts:
            try:
                where = endpoint(text)
            except Refused:
                continue
            if where.port and where.peer in (None, peer) and may_tell(source.reach, where.ip):
                found[where.address(peer)] = None
        return tuple(found)[: bounds.PEER_ADDRESSES]

    def restore(self, entry: Entry) -> bool:
        """Put back what was written before; False where there is no room for it any more."""
        if entry.peer == self.own or entry.peer in self._entries:
            return False
        return self._add(entry)

    # Having tried them

    def succeeded(self, peer: PeerId, address: Address, now: int, connected: Container[PeerId] = ()) -> None:
        """We reached `peer` at `address`: from now on it is a tried one, if its network has room among those."""
        entry = self._entries.get(peer)
        if entry is None:
            return
        self._remove(entry)
        if entry.addresses[0] != address:
            others = tuple(one for one in entry.addresses if one != address)
            entry.addresses = (address, *others)[: bounds.PEER_ADDRESSES]
            entry.place()
        entry.success_ms = entry.attempt_ms = entry.heard_ms = now
        entry.failures = entry.retry_ms = 0
        entry.tried = self._make_room_tried(entry, now, connected)
        self._add(entry)

    def failed(self, peer: PeerId, now: int, *, counts: bool = True) -> None:
        """We did not reach `peer`; it `counts` unless nobody can be reached, when it is we who are cut off."""
        entry = self._entries.get(peer)
        if entry is None:
            return
        shortest, longest = bounds.RETRY_MS
        entry.attempt_ms = now
        pause = min(shortest << min(entry.failures, 20), longest)
        entry.retry_ms = now + int(pause * self._random.uniform(0.75, 1.25))
        self.changed[peer] = None
        if not counts:
            return
        entry.failures += 1
        if self._hopeless(entry, now):
            self._remove(entry)
        elif len(entry.addresses) > 1:
            self._remove(entry)
            entry.addresses = (*entry.addresses[1:], entry.addresses[0])
            entry.place()
            self._add(entry)

    def forget(self, peer: PeerId) -> None:
        """It is of no use to us."""
        entry = self._entries.get(peer)
        if entry is not None:
            self._remove(entry)

    def expire(self, now: int) -> None:
        """Let go of what nobody has spoken of for long."""
        for entry in self:
            if self._hopeless(entry, now):
                self._remove(entry)

    @staticmethod
    def _hopeless(entry: Entry, now: int) -> bool:
        if not entry.tried:
            return entry.failures >= bounds.NEW_FAILURES or now - entry.heard_ms > bounds.NEW_LIFE_MS
        away = now - entry.success_ms
        long_gone = entry.failures >= bounds.TRIED_FAILURES and away > bounds.TRIED_GRACE_MS
        return long_gone or away > bounds.TRIED_LIFE_MS

    # Drawing

    def candidates(
        self,
        count: int,
        now: int,
        *,
        exclude: Container[PeerId],
        regions: Set[str] = frozenset(),
        new: bool = False,
    ) -> list[Entry]:
        """Up to so many peers to dial, drawn by region: from `regions` only where there is nobody else.

        Tried ones are preferred three times of four; with `new`, only new ones are drawn.
        """
        able = [one for one in self if one.peer not in exclude and one.retry_ms <= now]
        tried = [one for one in able if one.tried and not new]
        fresh = [one for one in able if not one.tried]
        avoided = set(regions)
        chosen: list[Entry] = []
        while len(chosen) < count and (tried or fresh):
            first, second = (tried, fresh) if self._random.random() < 0.75 else (fresh, tried)
            pool = _outside(avoided, first) or _outside(avoided, second) or first or second
            entry = self._draw(pool)
            chosen.append(entry)
            avoided.add(entry.region)
            tried = [one for one in tried if one is not entry]
            fresh = [one for one in fresh if one is not entry]
        return chosen

    def _draw(self, pool: Sequence[Entry]) -> Entry:
        by_region: dict[str, list[Entry]] = {}
        for entry in pool:
            by_region.setdefault(entry.region, []).append(entry)
        return self._random.choice(self._random.choice(list(by_region.values())))

    def sample(self, count: int, asker: Reach, *, exclude: Container[PeerId] = ()) -> list[bytes]:
        """Up to so many records to tell one at `asker`: by lot, one of each region before a second of any.

        Only those are told that reached us well, and nothing of addresses nearer than the asker is.
        """
        by_region: dict[str, list[bytes]] = {}
        for entry in self:
            told = entry.record and not entry.failures and entry.peer not in exclude
            if told and may_tell(asker, endpoint(entry.addresses[0]).ip):
                by_region.setdefault(entry.region, []).append(entry.record)
        piles = list(by_region.values())
        for pile in piles:
            self._random.shuffle(pile)
        chosen: list[bytes] = []
        while piles and len(chosen) < count:
            self._random.shuffle(piles)
            chosen += [pile.pop() for pile in piles[: count - len(chosen)]]
            piles = [pile for pile in piles if pile]
        return chosen

    # Room

    def _count(self, name: Class) -> dict[PeerId, None]:
        return self._classes.get(name, {})

    def _full(self, name: Class) -> bool:
        return len(self._count(name)) >= CAPS[name[0]]

    def _add(self, entry: Entry) -> bool:
        """Whether there was room; a tried one must have been given it before, or counts as new."""
        if entry.tried and any(map(self._full, _classes(entry, True))):
            entry.tried = False
        if not entry.tried and not self._make_room_new(entry):
            self.gone[entry.peer] = None
            return False
        self._entries[entry.peer] = entry
        for name in _classes(entry, entry.tried):
            self._classes.setdefault(name, {})[entry.peer] = None
        self.changed[entry.peer] = None
        self.gone.pop(entry.peer, None)
        return True

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.peer]
        for name in _classes(entry, entry.tried):
            del self._classes[name][entry.peer]
            if not self._classes[name]:
                del self._classes[name]
        self.changed.pop(entry.peer, None)
        self.gone[entry.peer] = None

    def _make_room_new(self, entry: Entry) -> bool:
        """Whether there is room; see the module for who goes."""
        if self._full(("new source", entry.share)) and not self._drop_failed(("new source", entry.share)):
            return False
        for name in _classes(entry, False)[2:]:
            if self._full(name) and not self._drop_failed(name) and not self._drop_of_largest(name, entry):
                return False
        if self._full(("new", "")):
            sources = [members for name, members in self._classes.items() if name[0] == "new source"]
            largest = max(sources, key=len)
            self._drop_worst(largest)
        return True

    def _drop_failed(self, name: Class) -> bool:
        failed = [one for one in self._count(name) if self._entries[one].failures]
        if failed:
            self._drop_worst(failed)
        return bool(failed)

    def _drop_of_largest(self, name: Class, entry: Entry) -> bool:
        """Unless it is the newcomer's own source that has most of the class."""
        shares = Counter(self._entries[one].share for one in self._count(name))
        largest, size = shares.most_common(1)[0]
        if size <= shares[entry.share] + 1:
            return False
        self._drop_worst(one for one in self._count(name) if self._entries[one].share == largest)
        return True

    def _drop_worst(self, peers: Iterable[PeerId]) -> None:
        self._remove(min((self._entries[one] for one in peers), key=lambda one: one.worth))

    def _make_room_tried(self, entry: Entry, now: int, connected: Container[PeerId]) -> bool:
        """The one of a full class that answered longest ago is new again, unless that was lately."""
        for name in reversed(_classes(entry, True)):
            if not self._full(name):
                continue
            members = self._count(name) if name[1] else self._largest_region()
            away = [self._entries[one] for one in members if one not in connected]
            oldest = min(away, key=lambda one: one.success_ms, default=None)
            if oldest is None or now - oldest.success_ms < bounds.TRIED_FRESH_MS:
                return False
            self._remove(oldest)
            oldest.tried = False
            self._add(oldest)
        return True

    def _largest_region(self) -> dict[PeerId, None]:
        regions = [members for name, members in self._classes.items() if name[0] == "tried region"]
        near = {one: None for one in self._count(("tried", "")) if not self._entries[one].region}
        return max([near, *regions], key=len)


def _outside(regions: Set[str], pool: Iterable[Entry]) -> list[Entry]:
    """Those of `pool` that are in none of the regions; near ones are in none."""
    return [one for one in pool if not one.region or one.region not in regions]
