"""The node's libp2p host: who we are, who is connected, and streams to them.

    async with open_host(seed, "127.0.0.1:4001") as host:
        host.handle("/fondaco/echo/1", echo)
        peer = await host.connect(address)
        stream = await host.open_stream(peer, "/fondaco/echo/1")

libp2p is imported when a host is opened, not when this module is.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from fondaco.node.network import redial
from fondaco.node.network.announcing import Announcer
from fondaco.node.network.bans import Bans, network_of
from fondaco.node.network.contacts import Contacts
from fondaco.node.network.guard import Guard
from fondaco.node.network.host_counters import HostCounters
from fondaco.node.network.peers import Address, Endpoint, PeerId, circuit_of, endpoint, peer_id_of, peer_of
from fondaco.node.network.ping import PingServer
from fondaco.node.network.slots import Slots, connections_that_fit
from fondaco.protocol import limits
from fondaco.protocol.errors import FondacoError, PeerFault, Refused, Unreachable
from fondaco.protocol.signing import Signer

if TYPE_CHECKING:
    from fondaco.node.network.stream import Stream

log = logging.getLogger(__name__)

StreamHandler = Callable[["Stream"], Awaitable[None]]
PeerCallback = Callable[[PeerId], None]
CLOSE_S = 5.0


class Host:
    """A running host; `open_host` makes one."""

    def __init__(self, basic: Any, swarm: Any, peer_id: PeerId, bans: Bans, nursery: trio.Nursery) -> None:
        self.peer_id = peer_id
        self.bans = bans
        self.counters = HostCounters()
        self._guard = Guard(self.counters, self.blame)
        self.contacts = Contacts()
        self._basic = basic
        self._swarm = swarm
        self._nursery = nursery
        self._connected: dict[PeerId, float] = {}
        self._on_connected: list[PeerCallback] = []
        self._on_disconnected: list[PeerCallback] = []
        self._dialled: dict[PeerId, Address] = {}
        self._dialling: dict[PeerId, trio.Lock] = {}
        self._excess = Counter[PeerId]()  # streams beyond the limit, of those connected
        self._changed = trio.Event()
        self._announcer = Announcer(basic)
        nursery.start_soon(self._announcer.run)
        self.pings = PingServer(self)

    # Who and where

    def addresses(self) -> list[Address]:
        """Where we listen, with our peer id."""
        found = []
        for listener in self._swarm.listeners.values():
            found += [Address(f"{where}/p2p/{self.peer_id}") for where in listener.get_addrs()]
        return found

    def peers(self) -> list[PeerId]:
        """Who is connected, in either direction."""
        return list(self._connected)

    @property
    def turned_away(self) -> int:
        """Sockets closed before any cryptography: too many of their address or network, or a banned one."""
        return int(self._swarm.turned_away)

    def is_connected(self, peer: PeerId) -> bool:
        return peer in self._connected

    def connected_at(self, peer: PeerId) -> float | None:
        """Since when `peer` is connected, by trio's clock; None while it is not."""
        return self._connected.get(peer)

    def round_trip_ms(self, peer: PeerId) -> float | None:
        """How long a keepalive ping takes, smoothed; None before the first or without a connection."""
        from fondaco.node.network.dial import identity

        measured = [c.muxed_conn.rtt() for c in self._swarm.get_connections(identity(peer))]
        return min((seconds * 1000 for seconds in measured if seconds > 0), default=None)

    def remote_ip(self, peer: PeerId) -> str:
        """Where `peer` is connected from, or where we dialled it; empty without a connection."""
        from fondaco.node.network.dial import identity

        found = (c.muxed_conn.get_remote_address() for c in self._swarm.get_connections(identity(peer)))
        return next((str(remote[0]) for remote in found if remote), "")

    def dialled(self, peer: PeerId) -> bool:
        """Whether one of the connections to `peer` is of our making."""
        from fondaco.node.network.dial import identity

        return any(c.muxed_conn.is_initiator for c in self._swarm.get_connections(identity(peer)))

    def is_idle(self, peer: PeerId) -> bool:
        """Whether no stream is open with `peer`, in either direction."""
        from fondaco.node.network.dial import identity

        return not any(c.streams for c in self._swarm.get_connections(identity(peer)))

    def on_connected(self, callback: PeerCallback) -> None:
        """Call `callback` when a peer's first connection is up. It must not block."""
        self._on_connected.append(callback)

    def on_disconnected(self, callback: PeerCallback) -> None:
        """Call `callback` when a peer's last connection is gone."""
        self._on_disconnected.append(callback)

    async def wait_for_change(self) -> None:
        """Until a peer comes or goes."""
        await self._changed.wait()

    # Dialling

    async def connect(self, address: Address) -> PeerId:
        """Connect to the peer at `address`, unless it is connected; return who it is.

        Raises `Refused` `network.address` or `network.banned`, `Unreachable` `network.unreachable`.
        """
        from fondaco.node.network import dial

        peer = peer_of(address)
        if peer == self.peer_id:
            raise Refused("network.address", "that is our own address")
        circuit, reason = circuit_of(address), self.bans.why(peer, trio.current_time())
        if circuit is None and reason is None:
            reason = self.bans.why(network_of(endpoint(address).ip), trio.current_time())
        if reason is not None:
            raise Refused("network.banned", f"{peer} is banned: {reason}")
        if circuit is not None and peer not in self._connected:
            await self.connect(circuit[0])  # before the lock, or two that relay for each other would wait for ever
        # One dial at a time: who comes second finds the connection of the first, and makes no other.
        lock = self._dialling.setdefault(peer, trio.Lock())
        try:
            async with lock:
                await dial.dial(self._basic, address)
            self.contacts.reached(peer, address)
        except Unreachable as error:
            self.counters.dial_failures += 1
            self.contacts.failed(peer, address, error.message, trio.current_time())
            raise
        finally:
            if not lock.statistics().tasks_waiting:
                self._dialling.pop(peer, None)
        return peer

    def keep_connected(self, address: Address) -> None:
        """Dial `address` now, and again whenever it is not connected, with growing pauses."""
        peer = peer_of(address)
        if peer == self.peer_id:
            return
        known = peer in self._dialled
        self._dialled[peer] = address
        if not known:
            self.start_soon(redial.keep_connected, self, peer)

    def dialled_at(self, peer: PeerId) -> Address:
        """Where a peer that is kept connected is dialled, as told last."""
        return self._dialled[peer]

    def keeps(self, peer: PeerId) -> bool:
        """Whether `peer` is dialled whenever it is not connected."""
        return peer in self._dialled

    # Streams

    def handle(self, protocol: str, handler: StreamHandler, *, announce: bool = True) -> None:
        """Serve inbound streams of `protocol`: `handler(stream)` in a task of its own.

        When it returns the stream is closed; when it raises the stream is reset. A `PeerFault` scores the peer
        down, and any other error is logged and counted: whatever a handler does, the node lives on. Those
        connected are told of the protocol, unless they know already.
        """
        from fondaco.node.network.stream import Stream

        async def serve(raw: Any) -> None:
            stream = Stream(raw, PeerId(raw.muxed_conn.peer_id.to_base58()))
            self.counters.streams_in += 1
            try:
                await self._guard.run(stream.peer, handler, stream)
            except FondacoError:
                await stream.reset()

        self._basic.set_stream_handler(protocol, serve)
        if announce:
            self._announcer.changed()

    async def _serve_any(self, raw: Any) -> None:
        """Every inbound stream, the library's own protocols included: negotiate, serve, survive."""
        from fondaco.node.network.stream import Stream

        stream = Stream(raw, PeerId(raw.muxed_conn.peer_id.to_base58()))
        try:
            await self._guard.run(stream.peer, self._negotiate, raw)
        except FondacoError:
            await stream.reset()
        else:
            await stream.finish()

    async def _negotiate(self, raw: Any) -> None:
        from fondaco.node.network.stream import STREAM_ERRORS

        try:
            await self._basic._swarm_stream_handler(raw)
        except STREAM_ERRORS as error:
            # (9) Bytes that are not UTF-8 where a protocol's name belongs, a reset half-way, an unknown protocol.
            raise Unreachable("stream.negotiation", f"{type(error).__name__}") from None

    async def open_stream(self, peer: PeerId, protocol: str) -> Stream:
        """A new stream to a connected peer. Raises `Unreachable` `network.unreachable` or `stream.refused`."""
        from fondaco.node.network import dial

        if peer not in self._connected:
            raise Unreachable("network.unreachable", f"{peer} is not connected")
        stream = await dial.open_stream(self._basic, peer, protocol)
        self.counters.streams_out += 1
        return stream

    # Judging

    def blame(self, peer: PeerId, fault: PeerFault) -> None:
        """Score `peer` down for `fault`; too many in a short time and it is dropped and banned."""
        self.counters.peer_faults += 1
        log.info("peer %s: %s", peer, fault)
        if self.bans.fault(peer, trio.current_time(), str(fault)):
            self.counters.bans += 1
            self.start_soon(self.drop, peer, f"banned: {fault}")

    async def drop(self, peer: PeerId, reason: str) -> None:
        """Close every connection to `peer`, sockets first."""
        from fondaco.node.network.dial import identity
        from fondaco.node.network.keepalive import drop

        self.counters.drops += 1
        self.contacts.dropping(peer, reason)
        log.info("dropping %s: %s", peer, reason)
        async with trio.open_nursery() as nursery:
            for connection in self._swarm.get_connections(identity(peer)):
                nursery.start_soon(drop, connection)

    def start_soon(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a background task that ends with the host."""
        self._nursery.start_soon(task, *args)

    # What the swarm tells us

    def _over_limit(self, raw_peer: Any) -> None:
        peer = PeerId(raw_peer.to_base58())
        self.counters.streams_over_limit += 1
        self._excess[peer] += 1
        if self._excess[peer] % limits.STREAMS_PER_CONNECTION == 0:
            self.blame(peer, PeerFault("streams.too_many", "streams far beyond the limit"))

    def _silent(self, raw_peer: Any) -> None:
        self.counters.silent += 1
        self.contacts.dropping(PeerId(raw_peer.to_base58()), "it did not answer a ping")

    def _came(self, raw_peer: Any) -> None:
        peer = PeerId(raw_peer.to_base58())
        reason = self.bans.why(peer, trio.current_time())
        connections = len(self._swarm.get_connections(raw_peer))
        if reason is not None or connections > limits.CONNECTIONS_PER_PEER:
            # (10) A banned peer is known only after the handshake; it goes at once.
            self.start_soon(self.drop, peer, f"banned: {reason}" if reason else "too many connections")
            return
        if peer not in self._connected:
            self._connected[peer] = trio.current_time()
            self.counters.connected += 1
            self.contacts.came(peer)
            self._tell(self._on_connected, peer)

    def _overran(self, raw_peer: Any) -> None:
        self.blame(PeerId(raw_peer.to_base58()), PeerFault("yamux.window", "it ignores windows"))

    def _went(self, raw_peer: Any) -> None:
        peer = PeerId(raw_peer.to_base58())
        if any(not connection.is_closed for connection in self._swarm.get_connections(raw_peer)):
            return
        with contextlib.suppress(KeyError):
            self._basic.get_peerstore().clear_peerdata(raw_peer)  # or it would remember every passer-by
        self._excess.pop(peer, None)
        if self._connected.pop(peer, None) is not None:
            self.counters.disconnected += 1
            self.contacts.left(peer, trio.current_time())
            self._tell(self._on_disconnected, peer)

    def _tell(self, callbacks: list[PeerCallback], peer: PeerId) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for callback in list(callbacks):
            callback(peer)


@contextlib.asynccontextmanager
async def open_host(
    seed: bytes,
    listen: str | None = "127.0.0.1:0",
    *,
    slots: Slots | None = None,
    keepalive_interval_ms: int = limits.KEEPALIVE_INTERVAL_MS,
    keepalive_timeout_ms: int = limits.KEEPALIVE_TIMEOUT_MS,
) -> AsyncIterator[Host]:
    """Run a host whose identity is the ed25519 key of this 32-byte seed; `listen` None only dials.

    Port 0 takes a free one. Raises `Refused` `network.address` or `network.port_taken`.
    """
    where = endpoint(listen) if listen is not None else None
    peer_id = peer_id_of(Signer(seed).public_key)

    from fondaco.node.network import hardening
    from fondaco.node.network.keepalive import Keepalive
    from fondaco.node.network.notices import Notices

    hardening.quiet_logs()
    if where is not None:
        hardening.check_port_free(where)
    bans = Bans()

    def admit(ip: str) -> bool:
        return not ip or bans.why(network_of(ip), trio.current_time()) is None

    basic, swarm = hardening.build_host(seed, admit=admit, slots=slots or Slots(connections_that_fit()))
    raised: FondacoError | None = None
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(basic.run(_multiaddrs(where)))
        if where is not None and not swarm.listeners:
            raise Refused("network.port_taken", f"cannot listen on {where.ip} port {where.port}")
        hardening.widen_backlog(swarm)
        nursery = await stack.enter_async_context(trio.open_nursery())
        host = Host(basic, swarm, peer_id, bans, nursery)
        hardening.bound_streams(swarm, host._serve_any, host._over_limit)
        swarm.register_notifee(Notices(host._came, host._went, host._overran))
        keepalive = Keepalive(
            swarm.get_connections,
            interval_ms=keepalive_interval_ms,
            timeout_ms=keepalive_timeout_ms,
            on_silent=host._silent,
        )
        nursery.start_soon(keepalive.run)
        try:
            yield host
        except FondacoError as error:
            raised = error
        finally:
            nursery.cancel_scope.cancel()
            await _close(basic, swarm)
    if raised is not None:
        raise raised  # as itself, not in a group for each of the library's nurseries


def _multiaddrs(where: Endpoint | None) -> list[Any]:
    from multiaddr import Multiaddr

    return [] if where is None else [Multiaddr(where.multiaddr())]


async def _close(basic: Any, swarm: Any) -> None:
    """(7) Leaving `run()` does not close TCP: say so, even when cancelled, but not for long.

    Connections first and all at once, for each takes the library two tenths of a second.
    """
    from fondaco.node.network.keepalive import drop

    with trio.move_on_after(CLOSE_S, shield=True):
        async with trio.open_nursery() as nursery:
            for connection in swarm.get_connections():
                nursery.start_soon(drop, connection)
        await basic.close()


__all__ = ["Address", "Host", "HostCounters", "PeerId", "open_host", "peer_id_of"]
