"""What py-libp2p's swarm must not be left to do by itself. Each piece is small, and has its test.

The numbers refer to network.md, "Host hardening".
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network import swarm as swarm_module
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader

from fondaco.node.network.handshakes import HandshakeBudget
from fondaco.node.network.peers import Endpoint
from fondaco.node.network.slots import Slots
from fondaco.node.network.yamux import BoundedYamux
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

HAPPY_EYEBALLS_S = 0.005

Admit = Callable[[str], bool]
"""Whether a connection from this IP address may be made."""
StreamHandler = Callable[[Any], Awaitable[None]]

_opening_stream: ContextVar[bool] = ContextVar("_opening_stream", default=False)


class NoAutoConnector(AutoConnector):  # type: ignore[misc]
    """Dials nobody. Upstream's dials whomever it remembers until half the connection limit is reached."""

    async def run_background_task(self, nursery: Any) -> None: ...

    async def maybe_connect(self) -> None: ...


class HardenedSwarm(Swarm):  # type: ignore[misc]
    """A swarm whose inbound connections give back what they took."""

    def __init__(self, *args: Any, admit: Admit, slots: Slots, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._admit = admit
        self._slots = slots
        self.inbound = slots.addresses
        """Inbound sockets open now, by IP address, those still shaking hands included."""
        self.handshakes = HandshakeBudget()
        self.turned_away = 0
        self.auto_connector = NoAutoConnector(self)

    async def new_stream(self, peer_id: ID) -> Any:
        """A stream over a connection that is there.

        Upstream dials where there is none, and so took back whoever left while something was to be told it.
        """
        opening = _opening_stream.set(True)
        try:
            return await super().new_stream(peer_id)
        finally:
            _opening_stream.reset(opening)

    async def dial_peer(self, peer_id: ID) -> Any:
        if _opening_stream.get():
            raise SwarmException(f"{peer_id} is not connected")
        return await super().dial_peer(peer_id)

    async def upgrade_inbound_raw_conn(self, raw_conn: Any, maddr: Any) -> Any:
        """(2) Hold on while the connection lives, then end its task.

        Upstream waits for the whole swarm to finish instead: each inbound connection keeps a slot and a task for
        ever, and number 251 is refused though everybody left long ago.
        """
        muxed = await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        await muxed.event_closed.wait()
        raise SwarmException("the inbound connection has ended")

    async def _handle_inbound_connection(self, read_write_closer: Any, maddr: Any) -> None:
        """(8, 10) So many sockets an address, so often, and of none that is banned; before any cryptography."""
        remote = read_write_closer.get_remote_address()
        ip = remote[0] if remote else ""
        if not self._admit(ip) or not self._slots.take(ip):
            self.turned_away += 1
            await read_write_closer.close()
            return
        try:
            if ip and not self.handshakes.spend(ip, trio.current_time()):
                self.turned_away += 1
                await read_write_closer.close()
                return
            await super()._handle_inbound_connection(read_write_closer, maddr)
        finally:
            self._slots.give(ip)


class BoundedMuxer(MuxerMultistream):  # type: ignore[misc]
    """(5) Makes `BoundedYamux`; upstream makes its own Yamux whatever class was registered."""

    async def new_conn(self, conn: Any, peer_id: ID) -> Any:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return self._annotate_connection(BoundedYamux(conn, peer_id), conn, protocol)


def build_host(seed: bytes, *, admit: Admit, slots: Slots) -> tuple[BasicHost, HardenedSwarm]:
    """A host that speaks TCP, Noise and Yamux and nothing else; not yet running.

    (7) There is no pubsub: one that is constructed but does not run blocks every connect.
    """
    keys = create_new_key_pair(seed)
    identity = ID.from_pubkey(keys.public_key)
    peers = PeerStore()
    peers.add_key_pair(identity, keys)
    upgrader = TransportUpgrader(
        {TProtocol(NOISE): Noise(keys, noise_privkey=create_noise_key().private_key)},
        {TProtocol(YAMUX): BoundedYamux},
    )
    upgrader.muxer_multistream = BoundedMuxer({TProtocol(YAMUX): BoundedYamux})
    swarm = HardenedSwarm(
        identity,
        peers,
        upgrader,
        transports=[TCP()],
        retry_config=RetryConfig(max_retries=0),  # redialling is ours: with back-off, and for as long as it takes
        connection_config=connection_config(),
        admit=admit,
        slots=slots,
    )
    swarm_module._HAPPY_EYEBALLS_DELAY = HAPPY_EYEBALLS_S  # (3) it is waited for even when the dial succeeds
    host = BasicHost(swarm, disable_identify_address_discovery=True)
    return host, swarm


def connection_config() -> ConnectionConfig:
    """(8) High caps, a short inbound handshake: a thousand mute sockets delay a newcomer by 30 ms, not 10 s.

    The low marks are zero, for the swarm must not dial whom it likes.
    """
    return ConnectionConfig(
        max_connections=limits.CONNECTIONS,
        min_connections=0,
        low_watermark=0,
        high_watermark=limits.CONNECTIONS,
        max_connections_per_peer=limits.CONNECTIONS_PER_PEER,
        dial_timeout=limits.DIAL_TIMEOUT_MS / 1000,
        inbound_upgrade_timeout=limits.UPGRADE_TIMEOUT_MS / 1000,
        outbound_upgrade_timeout=limits.DIAL_TIMEOUT_MS / 1000,
        outbound_stream_protocol_negotiation_timeout=limits.OPEN_STREAM_TIMEOUT_MS / 1000,
        inbound_stream_protocol_negotiation_timeout=limits.OPEN_STREAM_TIMEOUT_MS / 1000,
    )


def bound_streams(swarm: Swarm, serve: StreamHandler, turned_away: Callable[[Any], None]) -> None:
    """(6, 9) Every inbound stream goes through `serve`; one too many on its connection is reset unread.

    `turned_away` is told of whose it was.
    """

    async def accept(stream: Any) -> None:
        if len(stream.swarm_conn.streams) > limits.STREAMS_PER_CONNECTION:
            turned_away(stream.muxed_conn.peer_id)
            await stream.reset()
            return
        await serve(stream)

    swarm.set_stream_handler(accept)


def check_port_free(where: Endpoint) -> None:
    """(7) Raise `Refused` `network.port_taken` if somebody listens there.

    libp2p binds with SO_REUSEPORT: a second node on the same port starts without a word, and gets half of the
    connections.
    """
    family = socket.AF_INET6 if ":" in where.ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections in TIME_WAIT are no listener
        try:
            probe.bind((where.ip, where.port))
        except OSError as error:
            raise Refused(
                "network.port_taken",
                f"cannot listen on {where.ip} port {where.port}: {error.strerror or error}",
                hint="another node may be running; choose another port",
            ) from None


def widen_backlog(swarm: Swarm) -> None:
    """(8) Let many connections wait to be accepted; libp2p has 128 wait.

    Where they are too many the kernel drops a newcomer's first packet, and its next try is a second later, then
    three, then seven: beside a thousand sockets that come and go one waited for most of a minute.
    """
    for listener in swarm.listeners.values():
        for one in listener.listeners:
            one.socket.listen(limits.CONNECTIONS)


def quiet_logs() -> None:
    """(11) Give the "libp2p" logger a handler, or its warnings go bare to stderr.

    It also logs to the root logger, whose first message would install a handler to stderr.
    """
    for name in ("libp2p", ""):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
