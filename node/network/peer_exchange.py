"""How records of peers travel: `/fondaco/peers/1`, and the PRUNEs of gossip.

    swap [own record or empty]  ->  [own record or empty, [records of others]]

Whoever dialled asks once the connection is up, and now and then again; so a node that knows one other soon knows
more. A record is judged by its signature, never by who brought it. What no honest node does is a fault of whoever
does it: a record that is forged, one shown as the sender's own that is another's, or is older than one it showed
before, the same peer twice in one answer. To bring an old record of a third peer is none, for one may not have
heard of the newer; it changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from fondaco.node import clock
from fondaco.node.network import discovery_bounds as bounds
from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.budgets import Budgets
from fondaco.node.network.host import Host
from fondaco.node.network.known_peers import Source
from fondaco.node.network.localities import Reach, reach
from fondaco.node.network.peers import PeerId, peer_id_of
from fondaco.node.network.rpc import RpcClient, RpcServer
from fondaco.protocol.codec import Plain
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.frames import Hello
from fondaco.protocol.gossip.control import PeerInfo
from fondaco.protocol.peer_record import PeerRecord, identity_of, open_record

log = logging.getLogger("fondaco.discovery")

PROTOCOL = "/fondaco/peers/1"


def _nothing(_peer: PeerId, _record: bytes) -> None:
    """The default for who does not care."""


class Exchange:
    """Takes in the records of others, and once it serves gives them ours."""

    def __init__(self, host: Host, book: AddressBook, greeting: Hello, own: Callable[[], bytes]) -> None:
        """`own` is our signed record, empty while we listen nowhere that could be told."""
        self.on_record: Callable[[PeerId, bytes], None] = _nothing
        """Told of the record of a connected peer, once it is in the book."""
        self.stale = 0
        """Records that were no newer than what we had."""
        self.unchecked = 0
        """Records left unread, for their source had brought too many."""
        self._host = host
        self._book = book
        self._own = own
        self._client = RpcClient(host, PROTOCOL, hello=greeting)
        self._checks = Budgets(*bounds.RECORDS_PER_SOURCE, kept=bounds.BUDGETS)
        self._answers = Budgets(*bounds.ANSWERS_PER_PEER, kept=bounds.BUDGETS)
        self._greeting = greeting

    def serve(self) -> None:
        """Answer others from now on, as nodes do; tenants only ask."""
        RpcServer(self._host, PROTOCOL, {"swap": self._swap}, hello=self._greeting)

    async def ask(self, peer: PeerId) -> int:
        """Swap with `peer`; how many records told us something new.

        Raises `Refused` if it does not want to or is of another chain, `Unreachable` if it has no answer.
        """
        answer = await self._client.call(peer, "swap", [self._own()])
        try:
            match answer:
                case [bytes() as own, list() as others] if len(others) <= bounds.RECORDS_TOLD:
                    self._take_own(peer, own)
                    return self._take_told(peer, others)
            raise Malformed("peers.answer", "an answer that is not a record and a list of records")
        except PeerFault as fault:
            self._host.blame(peer, fault)
            return 0

    async def _swap(self, peer: PeerId, params: Plain) -> Plain:
        if type(params) is not list or len(params) != 1 or type(params[0]) is not bytes:
            raise Malformed("peers.swap", "swap takes one record")
        if not self._answers.spend(peer, trio.current_time()):
            raise Refused("peers.budget", "you have asked too often", hint="ask again in a minute")
        self._take_own(peer, params[0])
        ip = self._host.remote_ip(peer)
        near = reach(ip) if ip else Reach.EVERYWHERE
        return [self._own(), [*self._book.sample(bounds.RECORDS_TOLD, near, exclude=(peer,))]]

    def suggested(self, peer: PeerId, others: Iterable[PeerInfo]) -> list[PeerId]:
        """A neighbour's PRUNE names others; those whose record holds are in the book now, and are returned."""
        source = self._source(peer)
        believed: list[PeerId] = []
        try:
            for info in list(others)[: bounds.SUGGESTED_DIALS]:
                record = self._open(info.record, source) if info.record else None
                if record is None:
                    continue
                if info.identity != identity_of(record.public_key):
                    raise PeerFault("record.misnamed", "a suggested peer is not the one of its record")
                self._learn(info.record, record, source)
                if self._book.get(peer_id_of(record.public_key)) is not None:
                    believed.append(peer_id_of(record.public_key))
        except PeerFault as fault:
            self._host.blame(peer, fault)
        return believed

    def _source(self, peer: PeerId) -> Source:
        return Source.peer(peer, self._host.remote_ip(peer))

    def _take_own(self, peer: PeerId, data: bytes) -> None:
        """Raises `PeerFault` for a record that is not the peer's, or that is older than one it showed before."""
        source = self._source(peer)
        record = self._open(data, source) if data else None
        if record is None:
            return
        if peer_id_of(record.public_key) != peer:
            raise PeerFault("record.not_own", "the record of another peer in the place of one's own")
        known = self._book.get(peer)
        if known is not None and record.seq < known.seq:
            raise PeerFault("record.replayed", "a record of its own that is older than one it made before")
        self._learn(data, record, source)
        known = self._book.get(peer)
        if known is not None and known.record == data:
            self.on_record(peer, data)

    def _take_told(self, peer: PeerId, told: list[Plain]) -> int:
        source, seen, news = self._source(peer), set[PeerId](), 0
        for data in told:
            if type(data) is not bytes:
                raise Malformed("peers.answer", "a record is bytes")
            record = self._open(data, source)
            if record is None:
                continue
            other = peer_id_of(record.public_key)
            if other in seen:
                raise PeerFault("record.repeated", "the same peer twice in one answer")
            seen.add(other)
            news += self._learn(data, record, source)
        return news

    def _open(self, data: bytes, source: Source) -> PeerRecord | None:
        """None for what is of no use to us and nobody's fault. Raises `PeerFault`."""
        if not self._checks.spend(source.name, trio.current_time()):
            self.unchecked += 1
            return None
        try:
            return open_record(data)
        except Refused as refusal:
            log.debug("a peer record from %s is of no use: %s", source.name, refusal)
            return None

    def _learn(self, data: bytes, record: PeerRecord, source: Source) -> bool:
        fresh = self._book.learn_record(data, record, source, clock.now())
        self.stale += not fresh
        return fresh
