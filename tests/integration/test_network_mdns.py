"""Nodes of one chain in one local network: here loopback, where multicast works as well as anywhere."""

import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import zeroconf
from tests.support.network import CHAIN, address, hosts, seed, until

from fondaco.node.network.host import Host, open_host
from fondaco.node.network.mdns import Mdns, addresses_of, service_of
from fondaco.node.network.peers import Address, peer_id_of, through
from fondaco.protocol.reach import bounds
from fondaco.protocol.scalars import ChainId
from fondaco.protocol.signing import Signer

LOOPBACK = ["127.0.0.1"]
STRANGER = peer_id_of(Signer(seed(99)).public_key)


@pytest.fixture(scope="module", autouse=True)
def multicast() -> None:
    """Skips where the machine does not hand its own multicast back."""
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kind) as ears, socket.socket(*kind) as mouth:
        ears.bind(("", 0))
        ears.settimeout(2)
        mine = socket.inet_aton("127.0.0.1")
        try:
            ears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + mine)
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mine)
            mouth.sendto(b"?", ("224.0.0.251", ears.getsockname()[1]))
            ears.recv(1)
        except OSError as error:
            pytest.skip(f"no multicast on loopback: {error}")


def seeker(host: Host, heard: list[Address], chain: ChainId = CHAIN) -> Mdns:
    return Mdns(host, chain, found=heard.append, interfaces=LOOPBACK)


def speaking() -> set[threading.Thread]:
    """The threads of zeroconf: one that runs its loop, and one for what it hears."""
    return {one for one in threading.enumerate() if "zeroconf" in one.name or "_run_loop" in one.name}


async def test_two_nodes_of_a_chain_find_each_other_and_one_of_another_chain_is_not_heard() -> None:
    async with hosts(3) as (one, two, other):
        heard: dict[Host, list[Address]] = {one: [], two: [], other: []}
        async with trio.open_nursery() as nursery:
            for host, chain in ((other, ChainId("another-1")), (one, CHAIN), (two, CHAIN)):
                nursery.start_soon(seeker(host, heard[host], chain).run)
            await until(lambda: heard[one] and heard[two])
            nursery.cancel_scope.cancel()
        assert set(heard[one]) == {address(two)}
        assert set(heard[two]) == {address(one)}
        assert heard[other] == []
        assert await one.connect(heard[one][0]) == two.peer_id


async def test_no_thread_outlives_the_search() -> None:
    before = speaking()
    async with hosts(1) as (host,), trio.open_nursery() as nursery:
        nursery.start_soon(seeker(host, []).run)
        await until(lambda: len(speaking() - before) == 2)
        nursery.cancel_scope.cancel()
    assert speaking() <= before


async def test_one_that_listens_nowhere_hears_and_is_not_heard() -> None:
    async with open_host(seed(1), None) as silent, open_host(seed(2)) as loud, trio.open_nursery() as nursery:
        heard: dict[Host, list[Address]] = {silent: [], loud: []}
        for host in (silent, loud):
            nursery.start_soon(seeker(host, heard[host]).run)
        await until(lambda: heard[silent])
        assert heard[silent] == [address(loud)]
        assert heard[loud] == []
        nursery.cancel_scope.cancel()


async def test_where_nobody_can_speak_the_node_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    async with hosts(1) as (host,), trio.open_nursery() as nursery:
        nursery.start_soon(Mdns(host, CHAIN, found=lambda _: None, interfaces=["203.0.113.1"]).run)
        await until(lambda: "mDNS does not work here" in caplog.text)
        nursery.cancel_scope.cancel()


async def test_a_node_on_all_interfaces_tells_the_one_that_it_speaks_on() -> None:
    async with open_host(seed(1), "0.0.0.0:0") as host:
        seek = Mdns(host, CHAIN, found=lambda _: None, interfaces=["192.168.1.7"])
        where = addresses_of(seek._info(["192.168.1.7"]))
        assert {one.split("/tcp/")[0] for one in where} == {"/ip4/192.168.1.7"}
        assert {one.split("/")[4] for one in where} == {host.addresses()[0].split("/")[4]}
    async with open_host(seed(1)) as host:
        assert seeker(host, [])._info(["192.168.1.7"]) is None, "loopback means nothing to others"


async def test_a_liars_records_and_garbage_harm_nobody() -> None:
    async with hosts(1) as (host,), trio.open_nursery() as nursery:
        heard: list[Address] = []
        speaker = await trio.to_thread.run_sync(lambda: zeroconf.Zeroconf(interfaces=LOOPBACK))
        good = f"/ip4/192.168.1.9/tcp/4001/p2p/{STRANGER}"
        texts = {
            b"dnsaddr": b"\xff\xfe",
            b"dnsaddr2": b"/ip4/1.2.3.4/tcp/1",
            b"dnsaddr3": good.encode(),
            b"x": b"y",
        }
        service = service_of(CHAIN)
        info = zeroconf.ServiceInfo(
            service, f"liar.{service}", port=1, properties=texts, server="liar.local.", addresses=[bytes(4)]
        )
        try:
            await trio.to_thread.run_sync(speaker.register_service, info)
            nursery.start_soon(seeker(host, heard).run)
            await until(lambda: heard)
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(speaker.close)
    assert heard == [good]


async def test_more_names_than_can_be_asked_are_dropped() -> None:
    async with hosts(1) as (host,):
        seek = seeker(host, [])
        for number in range(bounds.MDNS_PENDING + 5):
            seek._heard(f"n{number}")
        seek._heard("n0")
        seek._heard(seek._name)
        assert (len(seek._seen), seek.dropped) == (bounds.MDNS_PENDING, 5)


async def test_who_hears_of_a_name_after_the_node_is_gone_says_nothing() -> None:
    async with hosts(1) as (host,):
        listener = seeker(host, [])._listener()
    added: Any = SimpleNamespace(name="Added")
    await trio.to_thread.run_sync(lambda: listener(name="n", state_change=added, zeroconf=None, service_type=""))


def test_of_an_answer_only_a_few_addresses_that_can_be_dialled_are_taken() -> None:
    relay = Address(f"/ip4/192.168.1.9/tcp/1/p2p/{peer_id_of(Signer(seed(98)).public_key)}")
    far = {b"dnsaddr": through(relay, STRANGER).encode(), b"dnsaddrx": None, b"colour": b"blue"}
    near = "/ip4/192.168.1.9/tcp"
    many = {f"dnsaddr{port}".encode(): f"{near}/{port}/p2p/{STRANGER}".encode() for port in range(99)}
    info: Any = SimpleNamespace(properties={**far, **many})
    assert len(addresses_of(info)) == bounds.MDNS_ADDRESSES - 3
    assert addresses_of(None) == []
