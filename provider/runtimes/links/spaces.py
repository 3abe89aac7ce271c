"""Entering the namespaces of workloads, and the anteroom: a network that belongs to one workload alone.

A workload may listen on any port of any address that it has, so nothing of ours can listen beside it. Each one
that has something to reach gets a second network, its anteroom, at the other end of a wire (a veth pair): there
all addresses of services are local, and what the linker has bound to them is all that answers. Both networks
belong to the workload's own user namespace: no power over the machine is needed to make them, and the workload
itself has given up all of it.

    workload, 10.77.0.2  ----wire----  anteroom, 10.77.0.1 and 10.77.128.0/17

What is done in a namespace is done by a child, which cannot come back, and hands over descriptors of what it made.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import hashlib
import os
import select
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

from fondaco.provider.runtimes.links.rtnetlink import Netlink

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
NS_GET_USERNS = 0xB701
ANSWER_BYTES = 4_096
MOST_FDS = 250
"""The kernel passes 253 at a time."""
JOB_S = 5.0
WORKLOAD_END, ANTEROOM_END, OUTER = "net0", "in0", "out0"
WORKLOAD_ADDRESS, ANTEROOM_ADDRESS, PREFIX = "10.77.0.2", "10.77.0.1", 16
SERVICES, SERVICES_PREFIX = "10.77.128.0", 17
MTU = 65_520
FORBIDDEN = (
    *(("0.0.0.0", 8), ("10.0.0.0", 8), ("100.64.0.0", 10), ("127.0.0.0", 8), ("169.254.0.0", 16)),
    *(("172.16.0.0", 12), ("192.0.0.0", 24), ("192.0.2.0", 24), ("192.88.99.0", 24), ("192.168.0.0", 16)),
    *(("198.18.0.0", 15), ("198.51.100.0", 24), ("203.0.113.0", 24), ("224.0.0.0", 4), ("240.0.0.0", 4)),
)
"""What no workload reaches, whatever egress there is: all that IANA does not give out as public (RFC 6890)."""
TUNSETIFF, TUNSETPERSIST, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x400454CB, 0x2, 0x1000

Place = tuple[str, int, bool]
"""Address, port, and whether it is for datagrams."""
Made = tuple[bytes, list[int]]
"""What a job answers, and descriptors of what it made."""
_libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    """Raises `OSError` for a call of the C library that failed."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def join(namespace: int, kind: int) -> None:
    check(_libc.setns(namespace, kind))


def leave(kinds: int) -> None:
    """For namespaces of its own."""
    check(_libc.unshare(kinds))


def owner_of(network: int) -> int:
    """A descriptor of the user namespace that a network belongs to."""
    return fcntl.ioctl(network, NS_GET_USERNS)


def within(user: int, network: int, job: Callable[[], Made]) -> Made:
    """Have a child join both namespaces and do `job`.  Raises `OSError` with what it could not do."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:
        try:
            join(user, CLONE_NEWUSER)
            join(network, CLONE_NEWNET)
            text, fds = job()
            _send(theirs, b"+" + text, fds)
        except OSError as error:
            with suppress(OSError):
                theirs.send(f"-{error.errno or 5} {error.strerror}".encode()[:ANSWER_BYTES])
        finally:
            os._exit(0)  # whatever happens: never two of the linker
    theirs.close()
    try:
        if not readable(ours.fileno(), JOB_S):
            os.kill(child, 9)
            raise OSError(110, "a child that entered a workload did not answer")
        text, fds = _receive(ours)
    finally:
        ours.close()
        os.waitpid(child, 0)
    if text[:1] != b"+":
        number, _, reason = text[1:].decode("utf-8", "replace").partition(" ")
        raise OSError(int(number or 5), reason or "a child that entered a workload died")
    return text[1:], fds


def readable(fd: int, seconds: float) -> bool:
    """Whether something comes within so many seconds; by `poll`, for `select` knows small descriptors only."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _send(to: socket.socket, text: bytes, fds: list[int]) -> None:
    to.send(struct.pack("=I", len(fds)) + text)
    for at in range(0, len(fds), MOST_FDS):
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds[at : at + MOST_FDS]))
        to.sendmsg([b"."], [rights])


def _receive(of: socket.socket) -> Made:
    answer = of.recv(ANSWER_BYTES)
    if not answer or answer[:1] == b"-":
        return answer, []
    count, text = struct.unpack("=I", answer[:4])[0], answer[4:]
    fds: list[int] = []
    while len(fds) < count:
        _, more, _, _ = socket.recv_fds(of, 1, MOST_FDS)
        if not more:
            raise OSError(5, "descriptors got lost")
        fds += more
    return text, fds


def make_anteroom(workload_network: int, *, outward: bool) -> int:
    """In a child that has joined the workload: make the anteroom, and stay in it; its descriptor.

    `outward`: with a way out, that pasta is to open, for all that is not forbidden.
    """
    leave(CLONE_NEWNET)
    room = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    here = Netlink()
    try:
        here.add_pair(ANTEROOM_END, WORKLOAD_END, workload_network, MTU)
    except FileExistsError:
        # Of a linker that was killed: the kernel takes its time to remove what it had.
        join(workload_network, CLONE_NEWNET)
        with suppress(OSError):
            Netlink().remove(WORKLOAD_END)
        join(room, CLONE_NEWNET)
        here.add_pair(ANTEROOM_END, WORKLOAD_END, workload_network, MTU)
    here.bring_up("lo")
    here.add_address(ANTEROOM_END, ANTEROOM_ADDRESS, PREFIX)
    here.bring_up(ANTEROOM_END)
    here.add_local(SERVICES, SERVICES_PREFIX)
    if outward:
        for network, prefix in FORBIDDEN:
            here.prohibit(network, prefix)
        make_tap(OUTER)
        here.bring_up(OUTER)
        here.add_default(name=OUTER)
        _put("/proc/sys/net/ipv4/ip_forward", b"1")
    join(workload_network, CLONE_NEWNET)
    there = Netlink()
    there.add_address(WORKLOAD_END, WORKLOAD_ADDRESS, PREFIX)
    there.bring_up(WORKLOAD_END)
    if outward:
        there.add_default(gateway=ANTEROOM_ADDRESS)
    join(room, CLONE_NEWNET)
    return room


def make_tap(name: str) -> None:
    """An interface that a program can take the other end of, by its name."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def _put(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def listeners(wanted: Iterable[Place]) -> list[int]:
    """A socket of this namespace for each."""
    return [_listener(address, port, datagrams) for address, port, datagrams in wanted]


def _listener(address: str, port: int, datagrams: bool) -> int:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if not datagrams:
        made.listen(128)
    made.setblocking(False)
    return made.detach()


def unconnected(count: int, *, datagrams: bool) -> list[int]:
    """Sockets of this namespace, for whoever gets them to connect with."""
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    made = [socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK) for _ in range(count)]
    return [one.detach() for one in made]


def address_of(service: str, taken: Iterable[str] = ()) -> str:
    """That a service has in anterooms: the same each time, unless another one of `taken` has it already."""
    others, round_ = set(taken), 0
    while True:
        seed = hashlib.sha256(f"{service}.{round_}".encode()).digest()
        address = f"10.77.{128 + seed[0] % 128}.{1 + seed[1] % 254}"
        if address not in others:
            return address
        round_ += 1


def addresses_of(services: Iterable[str]) -> dict[str, str]:
    """An address for each of a workload's services."""
    found: dict[str, str] = {}
    for service in sorted(services):
        found[service] = address_of(service, found.values())
    return found
