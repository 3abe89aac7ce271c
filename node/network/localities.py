"""How near an address is, and which addresses one operator probably has together.

Addresses are cheap within one network and dear across many. So whatever an attacker could have many of is counted
by network: by `region`, the /16 of an IPv4 or /32 of an IPv6 address, and by `block`, the /24 or /64. Near
addresses (loopback, private networks) are nobody's in particular and belong to no such network.
"""

from __future__ import annotations

import enum
import ipaddress
from functools import lru_cache

REMEMBERED = 8_192


class Reach(enum.IntEnum):
    """From where an address can be dialled; each includes those before it."""

    HERE = 0
    """Loopback: this machine alone."""
    NEAR = 1
    """A private network."""
    EVERYWHERE = 2
    NOWHERE = 3
    """Unspecified, multicast, reserved: no peer listens there."""


@lru_cache(maxsize=REMEMBERED)
def _address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=REMEMBERED)
def reach(ip: str) -> Reach:
    address = _address(ip)
    if address.is_unspecified or address.is_multicast or ip == "255.255.255.255":
        return Reach.NOWHERE
    if address.is_loopback:
        return Reach.HERE
    return Reach.EVERYWHERE if address.is_global else Reach.NEAR


def may_tell(teller: Reach, ip: str) -> bool:
    """Whether one at `teller` may tell of `ip`: strangers have no business to make us dial our own network."""
    return teller <= reach(ip) <= Reach.EVERYWHERE


@lru_cache(maxsize=REMEMBERED)
def region(ip: str) -> str:
    """The /16, or for IPv6 the /32; empty for near addresses."""
    return _network(ip, 16, 32)


@lru_cache(maxsize=REMEMBERED)
def block(ip: str) -> str:
    """The /24, or for IPv6 the /64; empty for near addresses."""
    return _network(ip, 24, 64)


def _network(ip: str, bits4: int, bits6: int) -> str:
    if reach(ip) is not Reach.EVERYWHERE:
        return ""
    address = _address(ip)
    bits = bits4 if address.version == 4 else bits6
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))
