"""How a node is reached where dialling it does not do, as far as its configuration asks for it.

relay = true     it leads others to nodes that keep a place with it
relays = [...]   it keeps a place with these, and can be reached through them
kad = true       it says where it is in the table of peers by key, and helps others to find who is in there
mdns = true      it finds nodes of its chain in the local network

reach = Reach(config, host, chain, found=...)    found(address, source): a peer may be there, as `source` says
nursery.start_soon(reach.run)
await reach.find(peer)                           where a peer is said to be
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from fondaco.node.config import NodeConfig
from fondaco.node.network.host import Host
from fondaco.node.network.kad import Kad
from fondaco.node.network.peers import Address, PeerId, through
from fondaco.node.network.places import Places
from fondaco.node.network.relay import Relay
from fondaco.protocol.scalars import ChainId

Found = Callable[[Address, str], None]
"""What is heard of a peer, unproven, and from whom: a peer's id, or `mdns`. It must not block."""


class Reach:
    """Of one node; `run` does all that there is to do."""

    def __init__(
        self, config: NodeConfig, host: Host, chain: ChainId, found: Found = lambda _address, _source: None
    ) -> None:
        self._host = host
        self._relays = [Address(relay) for relay in config.relays]
        self.relay = Relay(host) if config.relay else None
        self.places = Places(host, self._relays) if self._relays else None
        known = [Address(peer) for peer in config.peers]
        self.kad = Kad(host, chain, addresses=self.addresses, peers=known, found=found)
        self._serves_kad = config.kad

    def addresses(self) -> tuple[Address, ...]:
        """Where the node listens, and where its relays lead to it.

        Those of relays that keep no place just now are among them: what is signed and published must not change
        whenever a relay goes away for a moment.
        """
        return (*self._host.addresses(), *(through(relay, self._host.peer_id) for relay in self._relays))

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
            if self._serves_kad:
                await self.wait_reachable()
                nursery.start_soon(self.kad.run)
