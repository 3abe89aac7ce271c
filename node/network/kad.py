"""The table of peers by key: where a peer is, asked of those whose keys are near its own.

    kad = Kad(host, chain, addresses=..., peers=...)
    nursery.start_soon(kad.run)               # says where we are, and serves others, if we listen
    await kad.find(peer)                      # where `peer` says it is

Only a peer itself, over a connection that its key has proven, can say where it is, so whoever keeps a saying had
it from the right one. Whoever passes it on could still lie; but dialling an address proves the key again, so a lie
costs a failed dial and no more. Connections that a search opened are closed after it.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import trio

from fondaco.node.network.bans import network_of
from fondaco.node.network.delimited import read_message, write_message
from fondaco.node.network.host import Host
from fondaco.node.network.kad_names import NOBODY, address_in, may_name, peer_in, wire_addresses
from fondaco.node.network.known_peers import Source
from fondaco.node.network.peers import Address, PeerId, peer_of, shared_address
from fondaco.protocol.base58 import unbase58
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.reach import bounds
from fondaco.protocol.reach.kad import KadMessage, KadPeer, Kind, decode, encode, protocol_of
from fondaco.protocol.reach.lookup import Lookup
from fondaco.protocol.reach.table import RoutingTable, Sayings
from fondaco.protocol.scalars import ChainId

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

log = logging.getLogger(__name__)

Found = Callable[[Address, PeerId], None]
"""A peer is said to be at an address, by that peer."""
AGREEING = 3
"""So many who say the same end a search."""


class Kad:
    """Of one host. `addresses()` are our own, as others shall hear them; `peers` are asked first of all."""

    def __init__(
        self,
        host: Host,
        chain: ChainId,
        *,
        addresses: Callable[[], Sequence[Address]] = tuple,
        peers: Iterable[Address] = (),
        found: Found = lambda _address, _source: None,
    ) -> None:
        self.table = RoutingTable(unbase58(host.peer_id))
        self.sayings = Sayings(unbase58(host.peer_id))
        self._host = host
        self._own = unbase58(host.peer_id)
        self._protocol = protocol_of(chain)
        self._addresses = addresses
        self._seeds = {peer_of(address): address for address in peers}
        self._found = found
        self._turns = trio.Semaphore(bounds.KAD_SEARCHES)
        self._searching = 0
        self._opened: set[PeerId] = set()
        """Connected by a search alone."""
        self._meeting: set[PeerId] = set()
        """Asked just now whether they serve."""
        self._served: Counter[PeerId] = Counter()
        self._requests: dict[PeerId, deque[float]] = {}
        host.on_disconnected(self._left)

    # Searching

    async def find(self, peer: PeerId) -> list[Address]:
        """Where `peer` is said to be, by most of those who were asked first; nothing where nobody knows.

        Unproven until one is dialled. Raises `Refused` `network.peer_id` for what names no peer.
        """
        said: Counter[Address] = Counter()
        key = _key_of(peer)

        def hear(answer: KadMessage, source: PeerId) -> bool:
            named = {
                address
                for one in (*answer.providers, *answer.closer)
                if one.id == key
                for address in self._addresses_of(one, source)
            }
            said.update(named)
            return any(count >= AGREEING for count in said.values())

        await self._search(KadMessage(kind=Kind.GET_PROVIDERS, key=key), hear, keep=peer)
        return [address for address, _ in said.most_common(bounds.KAD_ADDRESSES)]

    async def _search(
        self,
        question: KadMessage,
        hear: Callable[[KadMessage, PeerId], bool] = lambda _answer, _source: False,
        then: Callable[[list[KadPeer]], None] = lambda _: None,
        *,
        keep: PeerId = NOBODY,
    ) -> None:
        """Ask who is ever nearer to the question's key, until `hear` has enough; `then` is told who answered."""
        async with self._turns:
            lookup = Lookup(self._own, question.key, self._known(question.key))
            self._searching += 1
            try:
                with trio.move_on_after(bounds.KAD_SEARCH_MS / 1000):
                    async with trio.open_nursery() as nursery:
                        step = trio.Event()
                        waiting = 0

                        async def ask(peer: KadPeer) -> None:
                            nonlocal waiting
                            try:
                                answer = await self._ask(peer, question)
                            except FondacoError as error:
                                log.debug("%s", error)
                                lookup.failed(peer)
                            else:
                                source = peer_in(peer.id)
                                lookup.answered(peer, self._told(answer, source))
                                if hear(answer, source):
                                    nursery.cancel_scope.cancel()
                            waiting -= 1
                            step.set()

                        while (chosen := lookup.next()) or waiting:
                            for peer in chosen:
                                waiting += 1
                                nursery.start_soon(ask, peer)
                            await step.wait()
                            step = trio.Event()
                then(lookup.closest())
            finally:
                self._searching -= 1
                self._opened.discard(keep)
                if not self._searching:
                    await self._hang_up()

    def _known(self, key: bytes) -> list[KadPeer]:
        """Whom to begin with: the nearest in the table, and whoever is connected or was named to us."""
        connected = [self._described(peer) for peer in self._host.peers()[: bounds.KAD_HEARD // 2]]
        named = [KadPeer(id=unbase58(peer), addresses=wire_addresses([at])) for peer, at in self._seeds.items()]
        return [*self.table.closest(key), *named, *connected]

    def _described(self, peer: PeerId) -> KadPeer:
        identity = unbase58(peer)
        return KadPeer(id=identity, addresses=self.sayings.of(identity, trio.current_time()))

    def _told(self, answer: KadMessage, source: PeerId) -> list[KadPeer]:
        """The peers in an answer that can be dialled."""
        told = []
        for peer in answer.closer:
            addresses = self._addresses_of(peer, source)
            if addresses:
                told.append(KadPeer(id=peer.id, addresses=wire_addresses(addresses)))
                for address in addresses:
                    self._found(address, source)
        return told

    def _addresses_of(self, peer: KadPeer, source: PeerId) -> list[Address]:
        """Where `source` may say that a peer is: nobody far away names addresses near us."""
        teller = Source.peer(source, self._host.remote_ip(source))
        found = (address_in(one, peer.id) for one in peer.addresses)
        return [address for address in found if address is not None and may_name(teller, address)]

    async def _ask(self, peer: KadPeer, question: KadMessage) -> KadMessage:
        """Connect to `peer` if need be, and have its answer. Raises `Unreachable`, `Refused` or `PeerFault`."""
        name = peer_in(peer.id)
        try:
            with trio.fail_after(bounds.KAD_ASK_MS / 1000):
                dialled = await self._reach(name, peer)
                stream = await self._host.open_stream(name, self._protocol)
                try:
                    await write_message(stream, encode(question))
                    data, _ = await read_message(stream, limit=bounds.KAD_MESSAGE_BYTES)
                finally:
                    await stream.reset()
            answer = decode(data)
            if answer.kind != question.kind:
                raise PeerFault("kad.answer", f"{answer.kind.name} in answer to {question.kind.name}")
        except trio.TooSlowError:
            self.table.failed(peer.id)
            raise Unreachable("kad.silent", f"{name} does not answer") from None
        except FondacoError as error:
            self.table.failed(peer.id)
            if isinstance(error, PeerFault):
                self._host.blame(name, error)
            raise
        # Not what others say goes into the table, but what worked, or what it says itself.
        addresses = wire_addresses([dialled]) if dialled is not None else self._described(name).addresses
        if addresses or self.table.has(peer.id):
            self.table.answered(KadPeer(id=peer.id, addresses=addresses), self._network(name))
        return answer

    async def _reach(self, name: PeerId, peer: KadPeer) -> Address | None:
        """Where `peer` is for certain, if dialling it showed that. Raises `Unreachable` or `Refused`."""
        if self._host.is_connected(name):
            return self._seeds.get(name)
        found = [address for one in peer.addresses if (address := address_in(one, peer.id)) is not None]
        for address in found[: bounds.KAD_DIALS]:
            try:
                await self._host.connect(address)
            except Unreachable:
                continue
            self._opened.add(name)
            return address
        raise Unreachable("network.unreachable", f"{name} is nowhere to be found")

    async def _hang_up(self) -> None:
        """Close what searches opened, unless somebody has come to want it."""
        opened, self._opened = self._opened, set()
        for peer in opened:
            if not self._host.keeps(peer):
                await self._host.drop(peer, "asked")

    # Saying where we are

    async def run(self) -> None:
        """Serve others, and keep what the nearest know of us fresh, for ever."""
        if self._host.addresses():  # who is only reached through a relay, is not asked to serve
            self._host.handle(self._protocol, self._serve)
        pause = bounds.KAD_REFRESH_SOON_MS
        while True:
            kept = 0
            if self._host.peers() or self._seeds:
                kept = await self.publish()
                await self._search(KadMessage(kind=Kind.FIND_NODE, key=secrets.token_bytes(32)))
            await trio.sleep((bounds.KAD_REFRESH_MS if kept else pause) / 1000)
            pause = bounds.KAD_REFRESH_SOON_MS if kept else min(pause * 2, bounds.KAD_REFRESH_MS)

    async def publish(self) -> int:
        """Tell those nearest to our key where we are; how many keep it."""
        near: list[KadPeer] = []
        await self._search(KadMessage(kind=Kind.FIND_NODE, key=self._own), then=near.extend)
        ours = KadPeer(id=self._own, addresses=wire_addresses(self._addresses()))
        if not ours.addresses:
            return 0
        saying = KadMessage(kind=Kind.ADD_PROVIDER, key=self._own, providers=(ours,))
        kept = 0
        for peer in near:
            try:
                await self._ask(peer, saying)
                kept += 1
            except FondacoError as error:
                log.debug("%s", error)
        await self._hang_up()
        return kept

    # Serving others

    async def _serve(self, stream: Stream) -> None:
        peer = stream.peer
        if self._served.total() >= bounds.KAD_SERVED or self._served[peer] >= bounds.KAD_SERVED_PER_PEER:
            raise Refused("kad.busy", "too many are served already")
        self._served[peer] += 1
        try:
            begun = b""
            for _ in range(bounds.KAD_SERVED_PER_STREAM):
                data, begun = await read_message(
                    stream, limit=bounds.KAD_MESSAGE_BYTES, begun=begun, within_ms=bounds.KAD_IDLE_MS
                )
                self._count(peer)
                message = decode(data)
                await write_message(stream, encode(self._answer(peer, message)))
                if message.kind == Kind.ADD_PROVIDER:
                    self._may_serve(peer)
        finally:
            self._served[peer] -= 1
            if not self._served[peer]:
                del self._served[peer]

    def _count(self, peer: PeerId) -> None:
        """Raises `Refused` `kad.often` for a peer that asks all the time."""
        now = trio.current_time()
        asked = self._requests.setdefault(peer, deque(maxlen=bounds.KAD_REQUESTS))
        if len(asked) == bounds.KAD_REQUESTS and now - asked[0] < bounds.KAD_REQUESTS_MS / 1000:
            raise Refused("kad.often", f"{peer} asks too often")
        asked.append(now)

    def _answer(self, peer: PeerId, message: KadMessage) -> KadMessage:
        """Raises `Refused` for what we do not keep."""
        kind, key = message.kind, message.key
        if kind == Kind.PING:
            return KadMessage(kind=kind)
        if kind == Kind.ADD_PROVIDER:
            self._keep(peer, message)
            return KadMessage(kind=kind, key=key)
        said = self.sayings.of(key, trio.current_time())
        known = (KadPeer(id=key, addresses=said),) if said else ()
        asker = unbase58(peer)
        near = tuple(one for one in self.table.closest(key) if one.id not in (asker, key))
        if kind == Kind.FIND_NODE:
            return KadMessage(kind=kind, key=key, closer=(*known, *near))
        return KadMessage(kind=kind, key=key, closer=near, providers=known)

    def _keep(self, peer: PeerId, message: KadMessage) -> None:
        identity = unbase58(peer)
        own = [one for one in message.providers if one.id == identity]
        if message.key != identity or not own:
            raise Refused("kad.saying", f"{peer} says where others are")
        addresses = self._addresses_of(own[0], peer)
        if not addresses:
            raise Refused("kad.saying", f"{peer} says nothing of use")
        if not self.sayings.say(identity, wire_addresses(addresses), self._network(peer), trio.current_time()):
            raise Refused("kad.full", "there is no room for what it says")
        for address in addresses:
            self._found(address, peer)

    def _may_serve(self, peer: PeerId) -> None:
        """Who said where it is, comes into the table if it serves as well."""
        if self.table.has(unbase58(peer)) or peer in self._meeting or len(self._meeting) >= bounds.KAD_MEETINGS:
            return
        self._meeting.add(peer)
        self._host.start_soon(self._meet, peer)

    async def _meet(self, peer: PeerId) -> None:
        """Ask it something; where it hung up at once, as searches do, call it back."""
        described, question = self._described(peer), KadMessage(kind=Kind.PING)
        try:
            await self._ask(described, question)
        except FondacoError:
            with trio.move_on_after(bounds.KAD_ASK_MS / 1000):
                while self._host.is_connected(peer):
                    await self._host.wait_for_change()
                with contextlib.suppress(FondacoError):
                    await self._ask(described, question)
        finally:
            self._meeting.discard(peer)
        if not self._searching:
            await self._hang_up()

    def _network(self, peer: PeerId) -> str:
        """The network to count a connected peer with; empty for those near us."""
        ip = self._host.remote_ip(peer)
        return network_of(ip) if shared_address(ip) else ""

    def _left(self, peer: PeerId) -> None:
        self._requests.pop(peer, None)
        self._opened.discard(peer)


def _key_of(peer: PeerId) -> bytes:
    """What a peer is looked for by; its name may be anything that somebody signed."""
    try:
        key = unbase58(peer)
    except ValueError:
        key = b""
    if not 0 < len(key) <= bounds.KAD_KEY_BYTES:
        raise Refused("network.peer_id", f"{peer[:80]!r} is not the id of a peer")
    return key
