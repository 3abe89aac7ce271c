"""The process that links the services of one lease: started by the provider, outlives it.

    linker.py HOME LEASE LOCK_FD READY_FD

It keeps nothing: what is to be linked is read from the folders of the lease's workloads below `HOME/run`, once at
the start and whenever it is asked to `look`, on the socket `HOME/links/LEASE/control`. The lock says "alive", as
that of a shim does; `state.json` says who it is. A byte on READY_FD: it has looked and listens.

Each workload that may reach others has an anteroom (see `spaces`), where the linker listens for it: on one address
for each service, at the ports that the service is exposed to it at. A connection is taken to one replica after the
other, beginning with another one each time, until one accepts. It ends when it is told to, or when none of the
workloads it knew has been alive for a while: those of a provider that never comes back shall leave nothing.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from fondaco.provider.runtimes.links import outward, spaces
from fondaco.provider.runtimes.links.datagrams import DatagramPort
from fondaco.provider.runtimes.links.outward import Outward
from fondaco.provider.runtimes.links.spaces import Place
from fondaco.provider.runtimes.links.streams import READ, Connection, Loop
from fondaco.provider.runtimes.shim import boot_id, start_ticks

CONNECTIONS = 1_024
"""Of one lease at a time; a client that is one too many waits."""
LEAST_CONNECTIONS = 64
CONNECTIONS_EACH = 512
"""Of one workload."""
DESCRIPTORS_BESIDE = 2_560
"""For listeners, clients of datagrams, and what lies in pools."""
FLOWS = 256
"""Clients of datagram ports of one lease: beyond these, new ones are not heard."""
POOL = 16
"""Sockets fetched from a replica's network at a time."""
LINGER_S = 60.0
"""Without a workload that is alive, before it ends by itself."""
TICK_S = 1.0
REQUEST_BYTES = 64


class Room:
    """A living workload: what it dials, and where it is dialled."""

    def __init__(self, loop: Loop, name: str, pid: int, ticks: int) -> None:
        """Raises `OSError` if it is gone."""
        self.name, self.pid, self.ticks = name, pid, ticks
        self.end = os.pidfd_open(pid)
        try:
            self.network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            if start_ticks(pid) != ticks:
                os.close(self.network)
                raise ProcessLookupError(3, "another process has its pid")
        except OSError:
            os.close(self.end)
            raise
        self.user = spaces.owner_of(self.network)
        self.anteroom: int | None = None
        self.listeners: dict[Place, socket.socket] = {}
        self.ports: dict[Place, DatagramPort] = {}
        self.connections: dict[Connection, Place] = {}
        self.outward: Outward | None = None
        self._loop = loop
        self._pools: dict[bool, deque[socket.socket]] = {False: deque(), True: deque()}

    def socket(self, *, datagrams: bool) -> socket.socket:
        """One of its network, to connect with.  Raises `OSError` if it is gone."""
        pool = self._pools[datagrams]
        if not pool:
            _, fds = spaces.within(
                self.user, self.network, lambda: (b"", spaces.unconnected(POOL, datagrams=datagrams))
            )
            pool.extend(socket.socket(fileno=fd) for fd in fds)
        return pool.popleft()

    def enter(self, *, way_out: bool) -> None:
        """Make the anteroom, unless that is there.  Raises `OSError`."""
        if self.anteroom is None:
            job = partial(_make_anteroom, self.network, way_out)
            _, (self.anteroom,) = spaces.within(self.user, self.network, job)

    def listen(self, wanted: list[Place]) -> list[Place]:
        """Have a listener for each of `wanted`, and no others; those that are new.  Raises `OSError`."""
        for gone in set(self.listeners) - set(wanted):
            self.unlisten(gone)
        new = [one for one in wanted if one not in self.listeners]
        if new:
            assert self.anteroom is not None, "entered before"
            _, fds = spaces.within(self.user, self.anteroom, lambda: (b"", spaces.listeners(new)))
            self.listeners.update({one: socket.socket(fileno=fd) for one, fd in zip(new, fds, strict=True)})
        return new

    def unlisten(self, one: Place) -> None:
        port, listener = self.ports.pop(one, None), self.listeners.pop(one)
        if port is not None:
            port.close()
        else:
            self._loop.forget(listener.fileno())
            listener.close()
        for connection in [open_ for open_, place in self.connections.items() if place == one]:
            connection.abort()

    def end_all(self) -> None:
        """It has ended, or is not to be linked any more. With what is let go of here its networks go."""
        self._loop.forget(self.end)
        for connection in list(self.connections):
            connection.abort()
        for one in list(self.listeners):
            self.unlisten(one)
        if self.outward is not None:
            self.outward.close()
        if self.anteroom is not None:
            os.close(self.anteroom)
        for pool in self._pools.values():
            for made in pool:
                made.close()
        for fd in (self.network, self.user, self.end):
            os.close(fd)


def _make_anteroom(network: int, way_out: bool) -> spaces.Made:
    return b"", [spaces.make_anteroom(network, outward=way_out)]


class Linker:
    """All of one lease."""

    def __init__(self, home: str, lease: str) -> None:
        self._home, self._lease = home, lease
        self._loop = Loop()
        self._rooms: dict[str, Room] = {}
        self._targets: dict[tuple[str, Place], tuple[str, int]] = {}
        """By caller and what it dials: the service, and the port that this listens on."""
        self._turns: dict[str, int] = {}
        self._connecting: set[Connection] = set()
        self._paused: set[tuple[str, Place]] = set()
        self._alive_at = time.monotonic()
        self._next_tick = 0.0
        self._over = False
        self._most = _descriptors()
        self._addresses: frozenset[str] = frozenset()
        self._news: socket.socket | None = None

    def serve(self, control: socket.socket) -> None:
        """Until it is to end."""
        self._loop.want(control.fileno(), READ, lambda _: self._asked(control))
        while not self._over:
            self._loop.turn(TICK_S)
            if time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + TICK_S
                self._tick()
        for name in list(self._rooms):
            self._drop(name)

    def _tick(self) -> None:
        now = time.monotonic()
        for connection in [one for one in self._connecting if (one.deadline or now) <= now]:
            if connection.deadline is None:
                self._connecting.discard(connection)
            else:
                connection.next()
        for room in self._rooms.values():
            for port in room.ports.values():
                port.expire()
            if room.outward is not None:
                room.outward.tend(now)
        self._go_on()
        if self._rooms:
            self._alive_at = now
        elif now - self._alive_at > LINGER_S:
            self._over = True

    def _asked(self, control: socket.socket) -> None:
        """One question on each connection; whoever can open the socket may ask."""
        try:
            asking, _ = control.accept()
        except OSError:
            return
        with asking:
            asking.settimeout(TICK_S)
            try:
                question = asking.recv(REQUEST_BYTES)
                if question == b"end\n":
                    self._over = True
                problems = self.look() if question == b"look\n" else []
                asking.sendall(json.dumps({"problems": problems}).encode() + b"\n")
            except OSError:
                return  # who asked has gone

    # --- What there is to link

    def look(self) -> list[str]:
        """Read the folders, and link what they say; what could not be done."""
        found, problems = dict(self._read()), []
        for name, room in list(self._rooms.items()):
            if name not in found or (found[name]["pid"], found[name]["pid_ticks"]) != (room.pid, room.ticks):
                self._drop(name)
        for name, told in found.items():
            try:
                if name not in self._rooms:
                    room = Room(self._loop, name, told["pid"], told["pid_ticks"])
                    self._rooms[name] = room
                    self._loop.want(room.end, READ, partial(self._gone, name))
                self._link(self._rooms[name], told)
            except OSError as error:
                if _alive(told["pid"], told["pid_ticks"]):
                    problems.append(f"{name.partition('.')[2]}: {error.strerror or error}")
        return problems

    def _read(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Workloads of the lease that are alive, as their folders have them."""
        run = os.path.join(self._home, "run")
        for name in sorted(os.listdir(run)):
            if not name.startswith(self._lease + "."):
                continue
            state = _read_json(os.path.join(run, name, "state.json")) or _read_json(
                os.path.join(run, name, "held.json")
            )
            links = _read_json(os.path.join(run, name, "links.json"))
            if state and links and state["boot"] == boot_id() and _alive(state["pid"], state["pid_ticks"]):
                yield name, {**links, "pid": state["pid"], "pid_ticks": state["pid_ticks"]}

    def _link(self, room: Room, told: dict[str, Any]) -> None:
        links: list[tuple[str, int, int, str]] = told["links"]
        if not links and not told["outward"] and not room.listeners:
            return
        room.enter(way_out=bool(told["outward"]))
        addresses = spaces.addresses_of({service for service, *_ in links})
        for key in [key for key in self._targets if key[0] == room.name]:
            del self._targets[key]
        for service, port, target, transport in links:
            self._targets[room.name, (addresses[service], port, transport == "UDP")] = service, target
        for one in room.listen([place for caller, place in self._targets if caller == room.name]):
            self._attend(room, one)
        if not told["outward"] and room.outward is not None:
            room.outward.close()
            room.outward = None
        if told["outward"] and room.outward is None:
            assert room.anteroom is not None, "entered above"
            self._know_addresses()
            room.outward = Outward(room.user, room.anteroom, told["outward"], self._addresses)
            room.outward.start()

    def _attend(self, room: Room, one: Place) -> None:
        listener = room.listeners[one]
        if one[2]:
            room.ports[one] = DatagramPort(
                self._loop, listener, lambda: self._candidates(room, one), time.monotonic
            )
        else:
            self._loop.want(listener.fileno(), READ, lambda _: self._accept(room, one))

    def _know_addresses(self) -> None:
        """Of this machine, which workloads do not reach; they are looked at again whenever one comes or goes."""
        if self._news is None:
            self._news = outward.address_news()
            self._loop.want(self._news.fileno(), READ, self._addresses_changed)
            self._addresses = outward.own_addresses()

    def _addresses_changed(self, _: int) -> None:
        assert self._news is not None, "that spoke"
        with suppress(OSError):
            while self._news.recv(spaces.ANSWER_BYTES):
                pass
        self._addresses = outward.own_addresses()
        for room in self._rooms.values():
            if room.outward is not None:
                room.outward.know(self._addresses)

    def _gone(self, name: str, _: int) -> None:
        self._drop(name)

    def _drop(self, name: str) -> None:
        room = self._rooms.pop(name)
        room.end_all()
        self._paused = {one for one in self._paused if one[0] != name}
        for key in [key for key in self._targets if key[0] == name]:
            del self._targets[key]

    # --- Connections

    def _candidates(self, room: Room, one: Place) -> Iterator[tuple[socket.socket, int]]:
        """Sockets to reach a service with: of all its replicas that are alive, beginning with the next in turn."""
        if one[2] and sum(port.flows for room in self._rooms.values() for port in room.ports.values()) >= FLOWS:
            return
        service, port = self._targets[room.name, one]
        prefix = f"{self._lease}.{service}."
        replicas = sorted(name for name in self._rooms if name.startswith(prefix))
        turn = self._turns[service] = self._turns.get(service, -1) + 1
        for at in range(len(replicas)):
            replica = self._rooms.get(replicas[(turn + at) % len(replicas)])
            if replica is not None:
                with suppress(OSError):
                    yield replica.socket(datagrams=one[2]), port

    def _accept(self, room: Room, one: Place) -> None:
        listener = room.listeners[one]
        total = sum(len(other.connections) for other in self._rooms.values())
        if total >= self._most or len(room.connections) >= CONNECTIONS_EACH:
            self._loop.forget(listener.fileno())  # who comes now waits in the kernel's queue
            self._paused.add((room.name, one))
            return
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptors left, mostly
            self._loop.forget(listener.fileno())
            self._paused.add((room.name, one))
            return
        connection = Connection(self._loop, client, self._candidates(room, one), partial(self._ended, room))
        room.connections[connection] = one
        self._connecting.add(connection)
        connection.next()

    def _ended(self, room: Room, connection: Connection) -> None:
        room.connections.pop(connection, None)
        self._connecting.discard(connection)
        self._go_on()

    def _go_on(self) -> None:
        """Hear those again who were not for lack of room."""
        for name, one in list(self._paused):
            self._paused.discard((name, one))
            if name in self._rooms and one in self._rooms[name].listeners:
                self._attend(self._rooms[name], one)


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            found: dict[str, Any] = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found


def _alive(pid: int, ticks: int) -> bool:
    """A zombie is not: it has no namespaces any more."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return int(fields[19]) == ticks and fields[0] not in "ZX"


def _descriptors() -> int:
    """Take as many as it may have; how many connections they are enough for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = 2**20 if hard == resource.RLIM_INFINITY else hard
    return max(LEAST_CONNECTIONS, min(CONNECTIONS, (most - DESCRIPTORS_BESIDE) // 2))


def main() -> None:
    home, lease, lock_fd, ready_fd = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for fd in (lock_fd, ready_fd):
        os.set_inheritable(fd, False)
    if os.fork():
        os._exit(0)  # it belongs to nobody's children: the provider need not reap it
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    top = os.path.join(home, "links", lease)
    folder = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = f"/proc/self/fd/{folder}/control"  # the path itself may be longer than that of a socket can be
    with suppress(FileNotFoundError):
        os.unlink(here)
    control.bind(here)
    control.listen(8)
    control.setblocking(False)
    linker = Linker(home, lease)
    problems = linker.look()
    state = {"pid": os.getpid(), "ticks": start_ticks(os.getpid()), "boot": boot_id()}
    with open(os.path.join(top, "state.json.new"), "w", encoding="ascii") as file:
        json.dump(state, file)
    os.replace(os.path.join(top, "state.json.new"), os.path.join(top, "state.json"))
    os.write(ready_fd, json.dumps({"problems": problems}).encode() + b"\n")
    os.close(ready_fd)
    linker.serve(control)
