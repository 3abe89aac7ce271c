"""Whom this node knows and whom it is connected to: learning of peers, telling of itself, and dialling.

    book, store = AddressBook(host.peer_id, seed=...), PeerStore.open(data / "peers.db")
    discovery = Discovery(host, book, store, signer, hello(chain), keep=..., announce=...)
    nursery.start_soon(discovery.run)
    discovery.found(address, Source.local("mdns"))     # whoever else hears of peers

Peers of the configuration are kept connected by the host, always. Beyond them a node dials until it has `least`
peers of its own choice (those it dialled, and those it keeps), and then no more: in regions where it has none yet,
tried ones first. One lost is replaced. A neighbour that prunes us from its mesh may suggest others, which are
dialled while there are fewer than `most`. And every other minute a peer that never answered is tested and let go
again, so that there are tried ones when they are needed.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence

import trio

from fondaco.node import clock
from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.bans import Subject, network_of
from fondaco.node.network.host import Host
from fondaco.node.network.known_peers import Entry, Source
from fondaco.node.network.localities import Reach, reach, region
from fondaco.node.network.peer_exchange import Exchange
from fondaco.node.network.peers import Address, PeerId, endpoint, peer_of
from fondaco.node.network.peerstore import PeerStore
from fondaco.protocol.errors import PeerFault, Refused, Unreachable
from fondaco.protocol.frames import Hello
from fondaco.protocol.gossip.control import PeerInfo
from fondaco.protocol.peer_record import RECORD_ADDRESSES, open_record, seal
from fondaco.protocol.signing import Signer

log = logging.getLogger("fondaco.discovery")


class Discovery:
    """See the module. `run` it in a nursery."""

    def __init__(
        self,
        host: Host,
        book: AddressBook,
        store: PeerStore,
        signer: Signer,
        greeting: Hello,
        *,
        keep: Iterable[Address] = (),
        announce: Sequence[str] = (),
        least: int = bounds.MIN_PEERS,
        most: int = bounds.MAX_PEERS,
        seed: int = 0,
    ) -> None:
        """`keep` are the peers that the host keeps connected; `announce` where others reach us, if not where we
        listen."""
        self.book = book
        self.record = b""
        """Our own, signed; empty while we listen nowhere that could be told."""
        self.exchange = Exchange(host, book, greeting, lambda: self.record)
        self.exchange.serve()
        self._host = host
        self._store = store
        self._signer = signer
        self._keep = {peer_of(address): address for address in keep}
        self._announce = tuple(announce)
        self._least, self._most = least, most
        self._random = random.Random(seed)
        self._suggested: deque[PeerId] = deque(maxlen=bounds.SUGGESTED_DIALS)
        self._testing: set[PeerId] = set()
        self._reached: dict[PeerId, float] = {}
        """When those were reached that are connected by our own choice."""
        self._wake = trio.Event()
        self._began = trio.current_time()
        self._feel_at = self._began + self._feeler_pause()
        store.load_bans(host.bans, trio.current_time(), clock.now())
        host.bans.on_ban = self._banned
        store.load(book)
        for address in self._keep.values():
            book.learn_address(address, Source.local("config"), clock.now())
        self.announce(())

    # Interface

    def found(self, what: Address | bytes, source: Source) -> bool:
        """Take in an address or a signed record that was found in some other way; whether it was new.

        Raises `PeerFault` for a forged record, `Refused` for one, or an address, that is of no use.
        """
        now = clock.now()
        if isinstance(what, bytes):
            fresh = self.book.learn_record(what, open_record(what), source, now)
        else:
            fresh = self.book.learn_address(what, source, now)
        if fresh:
            self._ring()
        return fresh

    def announce(self, more: Sequence[str]) -> None:
        """Sign a new record of where others reach us: as configured, or where we listen, and `more`, such as the
        addresses of relays."""
        listening = self._announce or [one for one in self._host.addresses() if _tellable(one)]
        addresses = [endpoint(one).multiaddr() for one in listening] + list(more)
        addresses = list(dict.fromkeys(addresses))[:RECORD_ADDRESSES]
        seq = self._store.next_seq(clock.now())
        self.record = seal(self._signer, seq, addresses) if addresses else b""
        if not addresses and self._host.addresses():
            log.warning("nobody will learn where this node listens: set `announce` to its public address")

    def record_of(self, peer: PeerId) -> bytes:
        """The verified record of a peer; empty where there is none."""
        entry = self.book.get(peer)
        return entry.record if entry is not None else b""

    def suggested(self, peer: PeerId, others: Iterable[PeerInfo]) -> None:
        """A neighbour pruned us and names others."""
        self._suggested.extend(self.exchange.suggested(peer, others))
        self._ring()

    def outbound(self) -> list[PeerId]:
        """Connected peers of our own choice: those we dialled and those we keep."""
        return [
            peer
            for peer in self._host.peers()
            if peer not in self._testing and (peer in self._keep or self._host.dialled(peer))
        ]

    def counts(self) -> dict[str, int]:
        """For metrics: peers in the book, connections of our choice, and records that were not taken in."""
        tried = sum(entry.tried for entry in self.book)
        return {
            "tried": tried,
            "new": len(self.book) - tried,
            "outbound": len(self.outbound()),
            "stale": self.exchange.stale,
            "unchecked": self.exchange.unchecked,
        }

    # Living

    async def run(self) -> None:
        """Until cancelled; what is known is written down then."""
        async with trio.open_nursery() as nursery:
            self._host.on_connected(self._came)
            self._host.on_disconnected(self._went)
            for peer in self._host.peers():
                self._came(peer)
            nursery.start_soon(self._dial_for_ever)
            nursery.start_soon(self._ask_for_ever)
            try:
                while True:
                    await trio.sleep(bounds.FLUSH_MS / 1000)
                    self.book.expire(clock.now())
                    self._store.save(self.book)
            finally:
                self._store.save(self.book)
                self._store.trim_bans(clock.now())

    def _ring(self) -> None:
        self._wake.set()

    def _banned(self, subject: Subject, life_ms: int, reason: str) -> None:
        self._store.save_ban(subject, clock.now() + life_ms if life_ms else 0, reason)

    def _came(self, peer: PeerId) -> None:
        self._ring()
        if not self._host.dialled(peer):
            return
        if peer in self._keep:
            self.book.succeeded(peer, self._keep[peer], clock.now(), self._host.peers())
        self._host.start_soon(self._ask, peer)

    def _went(self, peer: PeerId) -> None:
        """One that hangs up at once, because it is full or has banned us, is dialled ever more seldom."""
        self._ring()
        since = self._reached.pop(peer, None)
        if since is not None and trio.current_time() - since < bounds.BRIEF_MS / 1000:
            self.book.failed(peer, clock.now(), counts=bool(self._host.peers()))

    # Asking

    async def _ask(self, peer: PeerId) -> None:
        try:
            if await self.exchange.ask(peer):
                self._ring()
        except PeerFault as fault:
            self._host.blame(peer, fault)
        except Unreachable as error:
            log.debug("%s tells of no peers: %s", peer, error)
        except Refused as refusal:
            log.debug("%s tells of no peers: %s", peer, refusal)
            if refusal.code == "hello.chain" and peer not in self._keep:
                self.book.forget(peer)
                await self._host.drop(peer, "it is of another chain")

    async def _ask_for_ever(self) -> None:
        while True:
            pause = bounds.ASK_MS[0 if self._missing() > 0 else 1]
            await trio.sleep(pause / 1000 * self._random.uniform(0.75, 1.25))
            if peers := self.outbound() or self._host.peers():
                await self._ask(self._random.choice(peers))

    # Dialling

    def _missing(self) -> int:
        """Peers to be dialled; those of the configuration are waited for at first."""
        missing = self._least - len(self.outbound())
        if trio.current_time() - self._began < bounds.GRACE_MS / 1000:
            missing -= sum(not self._host.is_connected(peer) for peer in self._keep)
        return missing

    def _feeler_pause(self) -> float:
        return bounds.FEELER_MS / 1000 * self._random.uniform(0.5, 1.5)

    async def _dial_for_ever(self) -> None:
        shortest, longest = (ms / 1000 for ms in bounds.DIAL_PAUSE_MS)
        while True:
            self._wake = trio.Event()
            chosen, test = self._choose()
            async with trio.open_nursery() as nursery:
                for entry in chosen:
                    nursery.start_soon(self._test if test else self._dial, entry)
            await trio.sleep(shortest * self._random.uniform(0.75, 1.25))
            with trio.move_on_after(0 if chosen else longest * self._random.uniform(0.75, 1.25)):
                await self._wake.wait()

    def _choose(self) -> tuple[list[Entry], bool]:
        """Whom to dial now, and whether only to test them."""
        missing, now = self._missing(), clock.now()
        if not self._least:
            return [], False
        others = {*self._host.peers(), *self._keep}
        if self._suggested and len(self.outbound()) < self._most:
            entry = self.book.get(self._suggested.popleft())
            able = entry is not None and entry.retry_ms <= now and entry.peer not in others
            return self._allowed([entry] if entry is not None and able else []), False
        if missing > 0:
            regions = {region(ip) for ip in map(self._host.remote_ip, self.outbound()) if ip}
            count = min(missing, bounds.DIALS_AT_ONCE)
            return self._allowed(self.book.candidates(count, now, exclude=others, regions=regions)), False
        if trio.current_time() >= self._feel_at:
            self._feel_at = trio.current_time() + self._feeler_pause()
            return self._allowed(self.book.candidates(1, now, exclude=others, new=True)), True
        return [], False

    def _allowed(self, chosen: list[Entry]) -> list[Entry]:
        """Those that are not banned; the others are not looked at again for a while."""
        now, bans = trio.current_time(), self._host.bans
        allowed = []
        for entry in chosen:
            if bans.why(entry.peer, now) or bans.why(network_of(endpoint(entry.addresses[0]).ip), now):
                self.book.failed(entry.peer, clock.now(), counts=False)
            else:
                allowed.append(entry)
        return allowed

    async def _dial(self, entry: Entry) -> bool:
        """Whether we reached it."""
        address = entry.addresses[0]
        try:
            await self._host.connect(address)
        except (Refused, Unreachable) as error:
            log.debug("%s is not reached: %s", entry.peer, error)
            self.book.failed(entry.peer, clock.now(), counts=bool(self._host.peers()))
            return False
        if self._host.dialled(entry.peer):  # else it came to us meanwhile, which says nothing of the address
            self.book.succeeded(entry.peer, address, clock.now(), self._host.peers())
            self._reached[entry.peer] = trio.current_time()
        return True

    async def _test(self, entry: Entry) -> None:
        """Dial, and hang up; unless it is needed by now."""
        self._testing.add(entry.peer)
        try:
            if await self._dial(entry) and self._missing() <= 0:
                self._reached.pop(entry.peer, None)
                await self._host.drop(entry.peer, "it was only tested")
        finally:
            self._testing.discard(entry.peer)


def _tellable(address: Address) -> bool:
    return reach(endpoint(address).ip) is not Reach.NOWHERE
