"""Who may connect to us: so many from one address, from one network, and in all.

Counted are sockets, from the moment they are accepted, before any cryptography. Some of all connections are kept
for those that we dial: whoever fills the inbound ones has not cut us off from peers of our own choice. And some
file descriptors are kept for everything that is no connection.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable

from fondaco.node.network.localities import block
from fondaco.protocol import limits

OTHER_FILES = 512
"""Descriptors for the databases, the journal, the API and the provider."""


def connections_that_fit() -> int:
    """All the connections we may have: as many as there are descriptors for, after asking for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.CONNECTIONS + OTHER_FILES
    if soft < wanted:
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(limits.CONNECTIONS, soft - OTHER_FILES), 2 * limits.CONNECTIONS_OUTBOUND)


class Slots:
    """Inbound sockets by where they come from; each one taken is given back once."""

    def __init__(self, connections: int, *, network: Callable[[str], str] = block) -> None:
        """`connections` are all there may be, in either direction.

        `network` says which addresses are counted together; empty for those that are not.
        """
        self._most = connections - limits.CONNECTIONS_OUTBOUND
        self._network = network
        self.addresses: Counter[str] = Counter()
        self.networks: Counter[str] = Counter()
        self.total = 0

    def take(self, ip: str) -> bool:
        """Whether there is room for one more from `ip`; it is taken then."""
        network = self._network(ip) if ip else ""
        if self.total >= self._most:
            return False
        if self.addresses[ip] >= limits.CONNECTIONS_PER_ADDRESS:
            return False
        if network and self.networks[network] >= limits.CONNECTIONS_PER_NETWORK:
            return False
        self.total += 1
        self.addresses[ip] += 1
        if network:
            self.networks[network] += 1
        return True

    def give(self, ip: str) -> None:
        """One from `ip` is gone."""
        self.total -= 1
        network = self._network(ip) if ip else ""
        for counter, name in ((self.addresses, ip), (self.networks, network)):
            if counter[name] > 1:
                counter[name] -= 1
            else:
                del counter[name]
