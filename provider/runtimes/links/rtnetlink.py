"""As much of rtnetlink as the network of a workload takes: links, addresses, routes.

Numbers and layouts are the kernel's (linux/rtnetlink.h, linux/if_link.h, linux/veth.h). All that is made is made
in the network namespace that the socket was opened in.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_DELROUTE = 16, 17, 20, 22, 24, 25
REQUEST, ACK, ROOT_MATCH, REPLACE, EXCL, CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
ERROR, DONE = 2, 3
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_NET_NS_FD = 3, 4, 18, 28
INFO_KIND, INFO_DATA, VETH_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
TABLE_MAIN, TABLE_LOCAL = 254, 255
UNICAST, LOCAL, PROHIBIT = 1, 2, 8
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254
PROTOCOL_STATIC = 4
ADDRESS_GROUP = 0x10
"""RTMGRP_IPV4_IFADDR: tells of addresses that come and go."""
UP = 1
HEADER = struct.Struct("=IHHII")
ANSWER_BYTES = 65_536
SERIAL = 1


class Netlink:
    """A socket in the network namespace that this process is in now.  All methods raise `OSError`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def add_pair(self, name: str, peer: str, peer_network: int, mtu: int) -> None:
        """Two ends of one wire: `name` here, `peer` in the namespace with the descriptor `peer_network`."""
        far = _link(0, 0) + _attribute(IFLA_IFNAME, _text(peer)) + _attribute(IFLA_MTU, _number(mtu))
        far += _attribute(IFLA_NET_NS_FD, _number(peer_network))
        data = _attribute(INFO_DATA, _attribute(VETH_PEER, far))
        body = _link(0, 0) + _attribute(IFLA_IFNAME, _text(name)) + _attribute(IFLA_MTU, _number(mtu))
        body += _attribute(IFLA_LINKINFO, _attribute(INFO_KIND, b"veth") + data)
        self._ask(RTM_NEWLINK, CREATE | EXCL, body)

    def remove(self, name: str) -> None:
        """An end of a wire, and with it the other one."""
        self._ask(RTM_DELLINK, 0, _link(socket.if_nametoindex(name), 0))

    def bring_up(self, name: str) -> None:
        self._ask(RTM_NEWLINK, 0, _link(socket.if_nametoindex(name), UP))

    def add_address(self, name: str, address: str, prefix: int) -> None:
        packed = socket.inet_aton(address)
        body = struct.pack("=BBBBi", socket.AF_INET, prefix, 0, SCOPE_UNIVERSE, socket.if_nametoindex(name))
        self._ask(
            RTM_NEWADDR,
            CREATE | EXCL,
            body + _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed),
        )

    def add_local(self, network: str, prefix: int) -> None:
        """Every address of `network` is this namespace's own."""
        body = _route(prefix, TABLE_LOCAL, SCOPE_HOST, LOCAL) + _attribute(RTA_DST, socket.inet_aton(network))
        self._ask(RTM_NEWROUTE, CREATE | REPLACE, body + _attribute(RTA_OIF, _number(socket.if_nametoindex("lo"))))

    def add_default(self, *, gateway: str = "", name: str = "") -> None:
        """The way to everywhere else: by `gateway`, or straight out of `name`."""
        body = _route(0, TABLE_MAIN, SCOPE_UNIVERSE if gateway else SCOPE_LINK, UNICAST)
        if gateway:
            body += _attribute(RTA_GATEWAY, socket.inet_aton(gateway))
        if name:
            body += _attribute(RTA_OIF, _number(socket.if_nametoindex(name)))
        self._ask(RTM_NEWROUTE, CREATE | REPLACE, body)

    def prohibit(self, network: str, prefix: int) -> None:
        """Nothing gets to `network` from here; who tries is told so."""
        body = _route(prefix, TABLE_MAIN, SCOPE_UNIVERSE, PROHIBIT)
        self._ask(RTM_NEWROUTE, CREATE | REPLACE, body + _attribute(RTA_DST, socket.inet_aton(network)))

    def permit(self, network: str, prefix: int) -> None:
        """Take a `prohibit` back."""
        body = _route(prefix, TABLE_MAIN, SCOPE_UNIVERSE, PROHIBIT)
        self._ask(RTM_DELROUTE, 0, body + _attribute(RTA_DST, socket.inet_aton(network)))

    def addresses(self) -> frozenset[str]:
        """IPv4 addresses of all interfaces here."""
        self._socket.send(
            _message(RTM_GETADDR, REQUEST | ROOT_MATCH, struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, 0))
        )
        found: set[str] = set()
        while True:
            for kind, body in _messages(self._socket.recv(ANSWER_BYTES)):
                if kind == DONE:
                    return frozenset(found)
                if kind == RTM_NEWADDR:
                    given = dict(_attributes(body[8:]))
                    packed = given.get(IFA_LOCAL) or given.get(IFA_ADDRESS)
                    if packed is not None:
                        found.add(socket.inet_ntoa(packed))

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._socket.send(_message(kind, REQUEST | ACK | flags, body))
        for answer, content in _messages(self._socket.recv(ANSWER_BYTES)):
            if answer == ERROR:
                (number,) = struct.unpack_from("=i", content)
                if number:
                    raise OSError(-number, os.strerror(-number))


def address_news() -> socket.socket:
    """Readable whenever an address comes to, or goes from, an interface of this namespace."""
    news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    news.bind((0, ADDRESS_GROUP))
    return news


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, SERIAL, 0) + body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= HEADER.size:
        size, kind, *_ = HEADER.unpack_from(data)
        yield kind, data[HEADER.size : size]
        data = data[(size + 3) & ~3 :]


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:size]
        data = data[max(4, (size + 3) & ~3) :]


def _link(index: int, flags: int) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _route(prefix: int, table: int, scope: int, kind: int) -> bytes:
    return struct.pack("=BBBBBBBBI", socket.AF_INET, prefix, 0, 0, table, PROTOCOL_STATIC, scope, kind, 0)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _number(number: int) -> bytes:
    return struct.pack("=I", number)
