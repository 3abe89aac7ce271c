"""What the address book holds: a peer, where it listens, who told of it, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field

from fondaco.node.network.localities import Reach, block, reach, region
from fondaco.node.network.peers import Address, PeerId, endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who told us of a peer."""

    name: str
    """A peer id, or a word for what is part of this node."""
    reach: Reach
    """How near it is; it may not tell of addresses that are nearer."""
    share: str
    """What is counted as one source."""

    @classmethod
    def peer(cls, peer: PeerId, ip: str) -> Source:
        """A peer connected from `ip`, empty if that is unknown."""
        return cls(
            name=peer, reach=reach(ip) if ip else Reach.EVERYWHERE, share=(region(ip) if ip else "") or peer
        )

    @classmethod
    def local(cls, name: str) -> Source:
        """Something of our own, such as the configuration or mDNS, which is believed to tell of near addresses."""
        return cls(name=name, reach=Reach.HERE, share=name)


@dataclass(slots=True, kw_only=True)
class Entry:
    """One peer of the book; times are milliseconds since 1970, 0 for never."""

    peer: PeerId
    addresses: tuple[Address, ...]
    """To be dialled in this order; the first says which network it counts to."""
    record: bytes = b""
    """As signed by the peer; empty where we only heard of it."""
    seq: int = -1
    share: str = ""
    """Whose share it counts to while it is new."""
    heard_ms: int = 0
    tried: bool = False
    success_ms: int = 0
    attempt_ms: int = 0
    failures: int = 0
    """In a row."""
    retry_ms: int = 0
    """Not dialled before."""
    region: str = field(init=False)
    block: str = field(init=False)

    def __post_init__(self) -> None:
        self.place()

    def place(self) -> None:
        """Note the networks of the first address."""
        ip = endpoint(self.addresses[0]).ip
        self.region, self.block = region(ip), block(ip)

    @property
    def worth(self) -> tuple[int, int]:
        """The less it is the sooner it goes, among the new ones."""
        return -self.failures, self.heard_ms
