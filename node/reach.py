"""How a node is reached where dialling it does not do, as far as its configuration asks for it.

The keys of `node.toml`:

    relay = true     it leads others to nodes that keep a place with it
    relays = [...]   it keeps a place with these, and can be reached through them
    kad = true       it says where it is in the table of peers by key, and helps others to find who is in there
    mdns = true      it finds nodes of its chain in the local network
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict

import trio

from fondaco.node.config import NodeConfig
from fondaco.node.network.discovery import Discovery
from fondaco.node.network.host import Host
from fondaco.node.network.kad import Kad
from fondaco.node.network.known_peers import Source
from fondaco.node.network.mdns import Mdns
from fondaco.node.network.peers import Address, PeerId, endpoint, through
from fondaco.node.network.places import Places
from fondaco.node.network.relay import Relay
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import ChainId

Found = Callable[[Address, Source], None]
"""What is heard of a peer, unproven, and from whom. It must not block."""


class Reach:
    """Of one node; `run` does all that there is to do."""

    def __init__(
        self,
        config: NodeConfig,
        host: Host,
        chain: ChainId,
        *,
        found: Found = lambda _address, _source: None,
        placed: Callable[[list[Address]], None] = lambda _addresses: None,
    ) -> None:
        """`placed` is told the addresses through relays whenever they change."""
        self._host = host
        self._announce = [endpoint(one).address(host.peer_id) for one in config.announce]
        self._relays = [Address(relay) for relay in config.relays]
        self.relay = Relay(host) if config.relay else None
        self.places = Places(host, self._relays, placed) if self._relays else None
        self.kad = Kad(
            host,
            chain,
            addresses=self.addresses,
            peers=[Address(peer) for peer in config.peers],
            found=lambda address, source: found(address, Source.peer(source, host.remote_ip(source))),
        )
        self._serves_kad = config.kad
        self.mdns = Mdns(host, chain, found=lambda address: found(address, Source.local("mdns")))
        self._seen_in_lan = config.mdns

    def addresses(self) -> tuple[Address, ...]:
        """Where the node listens, or what it shall announce instead, and where its relays lead to it.

        Those of relays that keep no place just now are among them: what is signed and published must not change
        whenever a relay goes away for a moment.
        """
        direct = self._announce or self._host.addresses()
        return (*direct, *(through(relay, self._host.peer_id) for relay in self._relays))

    def counts(self) -> dict[str, int]:
        """For metrics: as a relay, behind relays, and in the table of peers."""
        served = (
            {} if self.relay is None else {"served_places": self.relay.book.places, **asdict(self.relay.counters)}
        )
        kept = (
            {}
            if self.places is None
            else {"kept": len(self.places.addresses()), "circuits_in": self.places.circuits}
        )
        return {**served, **kept, "table": len(self.kad.table), "sayings": len(self.kad.sayings)}

    async def find(self, peer: PeerId) -> list[Address]:
        """Where `peer` is said to be; dialling an address proves it. Nothing, where nobody knows."""
        return await self.kad.find(peer)

    async def wait_reachable(self) -> None:
        """Until somebody else can open a connection: at once where the node listens."""
        if self.places is not None and not self._host.addresses():
            await self.places.wait_kept()

    async def run(self) -> None:
        """For as long as the node runs."""
        async with trio.open_nursery() as nursery:
            if self.places is not None:
                nursery.start_soon(self.places.run)
            if self._seen_in_lan:
                nursery.start_soon(self.mdns.run)
            if self._serves_kad:
                await self.wait_reachable()
                nursery.start_soon(self.kad.run)


def reach_of(config: NodeConfig, host: Host, chain: ChainId, discovery: Discovery) -> Reach:
    """One whose findings go into the book of `discovery`, and whose relays into its signed record."""

    def found(address: Address, source: Source) -> None:
        with contextlib.suppress(Refused):  # the book keeps no addresses through relays: they are for tenants
            discovery.found(address, source)

    def placed(addresses: list[Address]) -> None:
        discovery.announce([address.removesuffix(f"/p2p/{host.peer_id}") for address in addresses])

    return Reach(config, host, chain, found=found, placed=placed)
