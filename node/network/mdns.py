"""Nodes of one chain find each other in a local network, as libp2p's mDNS has it.

    service   _p2p-<8 hex digits of the chain>._udp.local.     name: random, for it is no peer's business
    TXT       dnsaddr=/ip4/192.168.1.7/tcp/4001/p2p/12D3KooW...
    https://github.com/libp2p/specs/blob/master/discovery/mdns.md

What is found is only told (`found`); who dials is somebody else. py-libp2p's own discovery blocks the event loop
while it registers, tells of peers through one global event of the whole process, writes into the peerstore from
another thread, and forgets a peer's addresses when anybody in the network says goodbye in its name. So zeroconf,
which does the speaking, is used here without it: it has threads of its own, which are started, asked and ended
from trio's worker threads, and tells us by `run_sync_soon` alone.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import logging
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from fondaco.node.network.host import Host
from fondaco.node.network.localities import Reach, reach
from fondaco.node.network.peers import Address, circuit_of, endpoint, peer_of
from fondaco.protocol.errors import Refused
from fondaco.protocol.reach import bounds
from fondaco.protocol.scalars import ChainId

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

log = logging.getLogger(__name__)

KEY = b"dnsaddr"


def service_of(chain: ChainId) -> str:
    """The private service of one chain's nodes."""
    return f"_p2p-{hashlib.sha256(chain.encode()).hexdigest()[:8]}._udp.local."


class Mdns:
    """Of one host. `interfaces` are the local IP addresses to speak on; None for all but loopback."""

    def __init__(
        self,
        host: Host,
        chain: ChainId,
        *,
        found: Callable[[Address], None],
        interfaces: Sequence[str] | None = None,
    ) -> None:
        self._host = host
        self._service = service_of(chain)
        self._name = f"{secrets.token_hex(16)}.{self._service}"
        self._found = found
        self._interfaces = interfaces
        self._seen: OrderedDict[str, None] = OrderedDict()
        """Names to be asked for their addresses, the oldest first."""
        self._news = trio.Event()
        self.dropped = 0
        """Names that came faster than they could be asked."""

    async def run(self) -> None:
        """For ever; where the network lets nobody speak, it is tried again from time to time."""
        import zeroconf

        while True:
            try:
                await self._speak()
            except (OSError, zeroconf.Error) as error:
                log.warning("mDNS does not work here: %s", error)
            await trio.sleep(bounds.MDNS_RETRY_MS / 1000)

    async def _speak(self) -> None:
        """Raises `OSError`, and zeroconf's own errors. No thread is left when it returns, however it does."""
        import zeroconf

        local = await trio.to_thread.run_sync(self._local)
        speaker = await trio.to_thread.run_sync(functools.partial(zeroconf.Zeroconf, interfaces=local))
        browsers = []
        try:
            told = self._info(local)
            if told is not None:
                await trio.to_thread.run_sync(speaker.register_service, told)
            heard = [self._listener()]
            browse = functools.partial(zeroconf.ServiceBrowser, speaker, self._service, handlers=heard)
            browsers.append(await trio.to_thread.run_sync(browse))
            while True:
                await self._news.wait()
                self._news = trio.Event()
                while self._seen:
                    name, _ = self._seen.popitem(last=False)
                    await self._ask(speaker, name)
        finally:
            with trio.CancelScope(shield=True):
                for browser in browsers:  # its thread would outlive the speaker
                    await trio.to_thread.run_sync(browser.cancel)
                await trio.to_thread.run_sync(speaker.close)

    def _listener(self) -> Callable[..., None]:
        """What zeroconf calls in its thread: it hands the name on, and neither waits nor raises."""
        token = trio.lowlevel.current_trio_token()

        def changed(*, name: str, state_change: Any, **_: Any) -> None:
            if state_change.name == "Removed":
                return  # anybody can say so
            try:
                token.run_sync_soon(self._heard, name)
            except trio.RunFinishedError:
                return

        return changed

    def _heard(self, name: str) -> None:
        if name == self._name or name in self._seen:
            return
        if len(self._seen) >= bounds.MDNS_PENDING:
            self.dropped += 1
            return
        self._seen[name] = None
        self._news.set()

    async def _ask(self, speaker: Zeroconf, name: str) -> None:
        import zeroconf

        ask = functools.partial(speaker.get_service_info, self._service, name, bounds.MDNS_ANSWER_MS)
        try:
            info = await trio.to_thread.run_sync(ask)
        except (OSError, zeroconf.Error) as error:
            log.debug("%s: %s", name, error)
            return
        for address in addresses_of(info):
            if peer_of(address) != self._host.peer_id:
                self._found(address)

    def _local(self) -> list[str]:
        """The IP addresses to speak on. Raises `OSError` where there are none, or one is not of this machine:

        zeroconf would find that out with half of its sockets open, and leave them so.
        """
        if self._interfaces is not None:
            for ip in self._interfaces:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((ip, 0))
            return list(self._interfaces)
        import ifaddr

        found = [
            ip.ip
            for adapter in ifaddr.get_adapters()
            for ip in adapter.ips
            if isinstance(ip.ip, str) and reach(ip.ip) in (Reach.NEAR, Reach.EVERYWHERE)
        ]
        if not found:
            raise OSError("no network but this machine itself")
        return found[: bounds.MDNS_ADDRESSES]

    def _info(self, local: Iterable[str]) -> ServiceInfo | None:
        """What others are told: where we listen on `local`; None where we do not."""
        from zeroconf import ServiceInfo

        told: list[str] = []
        for address in self._host.addresses():
            where = endpoint(address)
            for ip in local if reach(where.ip) is Reach.NOWHERE else [where.ip]:
                same = ipaddress.ip_address(ip).version == ipaddress.ip_address(where.ip).version
                if same and ip in local:
                    told.append(address.replace(where.ip, ip, 1))
        if not told:
            return None
        keys = [KEY, *(KEY + str(number).encode() for number in range(2, len(told) + 1))]
        properties = {key: value.encode() for key, value in zip(keys, told, strict=True)}
        port = endpoint(told[0]).port
        packed = [ipaddress.ip_address(endpoint(one).ip).packed for one in told]
        server = f"{self._name.partition('.')[0]}.local."
        return ServiceInfo(
            self._service, self._name, port=port, properties=properties, server=server, addresses=packed
        )


def addresses_of(info: ServiceInfo | None) -> list[Address]:
    """The addresses in an answer that we could dial; of others, and of more than a few, nothing is said."""
    if info is None:
        return []
    found = []
    for key, value in list(info.properties.items())[: bounds.MDNS_ADDRESSES]:
        if not key.startswith(KEY) or value is None:
            continue
        try:
            address = Address(value.decode())
            peer_of(address)
        except (Refused, UnicodeDecodeError):
            continue
        if circuit_of(address) is None:
            found.append(address)
    return found
