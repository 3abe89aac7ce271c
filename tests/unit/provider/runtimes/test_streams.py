"""How connections and datagrams between services are carried: real sockets, one turn of the loop at a time."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from itertools import count
from typing import TypeVar

import pytest

from fondaco.provider.runtimes import linking
from fondaco.provider.runtimes.links import datagrams, spaces, streams
from fondaco.provider.runtimes.links.datagrams import DatagramPort
from fondaco.provider.runtimes.links.streams import Connection, Loop

Kept = TypeVar("Kept", socket.socket, Loop)
_open: list[socket.socket | Loop] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Whatever a test opened by `kept` is closed after it."""
    yield
    while _open:
        _open.pop().close()


def kept(one: Kept) -> Kept:
    _open.append(one)
    return one


class Carrying:
    """A client, a server behind, and what carries between them."""

    def __init__(self, *ports: int) -> None:
        self.loop = kept(Loop())
        self.ended: list[Connection] = []
        self.server = kept(socket.create_server(("127.0.0.1", 0)))
        self.client, accepted = map(kept, socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
        self.client.setblocking(False)
        wanted = [*ports, self.server.getsockname()[1]]
        self.connection = Connection(self.loop, accepted, iter(map(plain, wanted)), self.ended.append)
        self.connection.next()

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.turn(0.05)

    def accept(self) -> socket.socket:
        self.turn()
        self.server.settimeout(5)
        accepted = kept(self.server.accept()[0])
        self.turn()
        accepted.setblocking(False)
        return accepted


def plain(port: int) -> tuple[socket.socket, int]:
    return kept(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)), port


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_bytes_go_both_ways_and_each_end_is_passed_on_after_them() -> None:
    carried = Carrying()
    server = carried.accept()
    carried.client.send(b"question")
    carried.client.shutdown(socket.SHUT_WR)
    carried.turn(2)
    assert (server.recv(100), server.recv(100)) == (b"question", b"")
    server.send(b"answer")
    carried.turn()
    assert carried.client.recv(100) == b"answer", "one end is no end of the other"
    server.close()
    carried.turn(2)
    assert carried.client.recv(100) == b""
    assert carried.ended == [carried.connection]


def test_who_does_not_read_holds_up_who_sends() -> None:
    carried = Carrying()
    server = carried.accept()
    sent = 0
    for _ in range(2_000):
        try:
            sent += carried.client.send(bytes(65_536))
        except BlockingIOError:
            before = sent
            carried.turn()
            try:
                sent += carried.client.send(bytes(65_536))
            except BlockingIOError:
                break
            assert sent > before
    else:
        pytest.fail("it never stopped taking")
    got = 0
    while got < sent:
        try:
            got += len(server.recv(1 << 20))
        except BlockingIOError:
            carried.turn()
    assert got == sent


def test_a_replica_that_refuses_is_passed_over() -> None:
    carried = Carrying(closed_port(), closed_port())
    carried.turn(3)
    assert carried.accept()
    assert carried.ended == []


def test_with_no_replica_left_the_client_is_told_at_once() -> None:
    loop, ended = kept(Loop()), list[Connection]()
    listener = kept(socket.create_server(("127.0.0.1", 0)))
    client = kept(socket.create_connection(listener.getsockname()))
    Connection(loop, kept(listener.accept()[0]), iter([plain(closed_port())]), ended.append).next()
    loop.turn(1)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert len(ended) == 1


def test_a_reset_of_one_side_is_a_reset_of_the_other() -> None:
    carried = Carrying()
    server = carried.accept()
    carried.connection.abort()
    with pytest.raises(ConnectionResetError):
        server.recv(1)


def test_a_replica_that_says_nothing_has_a_time_limit() -> None:
    full = kept(socket.create_server(("127.0.0.1", 0), backlog=0))
    waiting = [plain(full.getsockname()[1])[0] for _ in range(3)]
    for one in waiting:
        one.connect_ex(full.getsockname())
    carried = Carrying(full.getsockname()[1])
    carried.turn()
    assert carried.connection.deadline is not None
    carried.connection.next()  # as when that has come
    assert carried.accept()


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        yield one


def datagram_socket() -> socket.socket:
    made = kept(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.setblocking(False)
    return made


def test_each_client_of_a_datagram_port_is_a_peer_of_its_own_until_it_is_silent_for_long(
    echo: socket.socket,
) -> None:
    loop, now, made = kept(Loop()), [0.0], count()
    listener = datagram_socket()
    listener.bind(("127.0.0.1", 0))

    def candidates() -> Iterator[tuple[socket.socket, int]]:
        next(made)
        yield datagram_socket(), echo.getsockname()[1]

    port = DatagramPort(loop, listener, candidates, lambda: now[0])
    clients = [datagram_socket() for _ in range(2)]
    peers = set()
    for client in (*clients, *clients):
        client.sendto(b"hello", listener.getsockname())
        loop.turn(1)
        data, peer = echo.recvfrom(100)
        peers.add(peer)
        echo.sendto(data + b"!", peer)
        loop.turn(1)
        client.settimeout(5)
        assert client.recv(100) == b"hello!"
    assert len(peers) == next(made) == 2
    now[0] = datagrams.IDLE_S + 1
    port.expire()
    clients[0].sendto(b"hello", listener.getsockname())
    loop.turn(1)
    assert echo.recvfrom(100)[1] not in peers
    port.close()


def test_a_datagram_port_has_room_for_so_many_clients(
    echo: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "FLOWS", 2)
    loop, open_, listener = kept(Loop()), list[socket.socket](), datagram_socket()
    listener.bind(("127.0.0.1", 0))

    def candidates() -> Iterator[tuple[socket.socket, int]]:
        open_.append(datagram_socket())
        yield open_[-1], echo.getsockname()[1]

    port = DatagramPort(loop, listener, candidates, lambda: 0.0)
    for client in [datagram_socket() for _ in range(3)]:
        client.sendto(b"hello", listener.getsockname())
        loop.turn(1)
    assert [one.fileno() >= 0 for one in open_] == [False, True, True]
    port.close()
    assert [one.fileno() for one in open_] == [-1, -1, -1]


def test_a_service_has_its_own_address_and_keeps_it() -> None:
    names = [f"service-{number}" for number in range(300)]
    found = spaces.addresses_of(names)
    assert len(set(found.values())) == len(names)
    assert found == spaces.addresses_of(reversed(names))
    assert spaces.addresses_of(["db", "web"])["db"] == spaces.addresses_of(["db"])["db"]


def test_the_linker_needs_nothing_but_the_standard_library() -> None:
    code = linking.CODE.replace("; main()", "; print(*sys.modules)")
    done = subprocess.run(
        [*linking.PROGRAM[:-1], code, str(linking.SOURCES)], capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if name.startswith("fondaco.")}
    assert loaded == {
        *("fondaco.provider", "fondaco.provider.runtimes", "fondaco.provider.runtimes.shim"),
        "fondaco.provider.runtimes.links",
        *(
            f"fondaco.provider.runtimes.links.{name}"
            for name in ("linker", "spaces", "streams", "datagrams", "outward", "rtnetlink")
        ),
    }
    assert streams.__name__ in loaded
