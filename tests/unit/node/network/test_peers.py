import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.node.network.peers import (
    Address,
    PeerId,
    circuit_of,
    endpoint,
    peer_id_of,
    peer_of,
    public_key_of,
    shared_address,
    through,
)
from fondaco.protocol.base58 import base58, unbase58
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.signing import Signer

KEY = Signer(bytes(32)).public_key
PEER = peer_id_of(KEY)


def test_a_peer_id_is_what_libp2p_makes_of_the_same_seed() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    for number in range(20):
        seed = bytes([number]) * 32
        theirs = ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58()
        assert peer_id_of(Signer(seed).public_key) == theirs


@given(key=st.binary(min_size=32, max_size=32))
def test_a_peer_id_gives_its_key_back(key: bytes) -> None:
    assert public_key_of(peer_id_of(PublicKey(key))) == key


@given(data=st.binary(max_size=40))
def test_base58_gives_its_bytes_back(data: bytes) -> None:
    assert unbase58(base58(data)) == data


@pytest.mark.parametrize("text", ["", "12D3", "0OIl", "Qm" + "a" * 44, "1" * 500, PEER[:-1]])
def test_what_is_no_ed25519_peer_id_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"network\.peer_id"):
        public_key_of(text)


@pytest.mark.parametrize(
    ("text", "multiaddr"),
    [
        ("127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001"),
        ("[::1]:0", "/ip6/::1/tcp/0"),
        ("/ip4/10.0.0.1/tcp/65535", "/ip4/10.0.0.1/tcp/65535"),
        (f"/ip6/::1/tcp/1/p2p/{PEER}", "/ip6/::1/tcp/1"),
    ],
)
def test_addresses_can_be_written_in_two_ways(text: str, multiaddr: str) -> None:
    assert endpoint(text).multiaddr() == multiaddr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:1",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:\u0661",
        "/ip4/::1/tcp/1",
        "/ip4/127.0.0.1/udp/1",
        "/dns4/example.org/tcp/1",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/ip4/127.0.0.1/tcp/1/quic/x",
        "/",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"network\.address"):
        endpoint(text)


def test_an_address_that_names_a_bad_peer_is_refused() -> None:
    with pytest.raises(Refused, match=r"network\.peer_id"):
        endpoint("/ip4/127.0.0.1/tcp/1/p2p/nobody")


def test_an_address_to_dial_must_name_its_peer() -> None:
    where = endpoint("127.0.0.1:4001")
    assert peer_of(where.address(PEER)) == PEER
    with pytest.raises(Refused, match="does not say which peer"):
        peer_of("127.0.0.1:4001")  # type: ignore[arg-type]


RELAY = Address(f"/ip4/203.0.113.7/tcp/4001/p2p/{peer_id_of(PublicKey(bytes(32)))}")


def test_an_address_may_lead_through_a_relay() -> None:
    behind = through(RELAY, PEER)
    assert behind == f"{RELAY}/p2p-circuit/p2p/{PEER}"
    assert circuit_of(behind) == (RELAY, PEER)
    assert peer_of(behind) == PEER
    assert circuit_of(RELAY) is None


@pytest.mark.parametrize(
    "address",
    [
        through(RELAY, peer_of(RELAY)),
        through(through(RELAY, PEER), peer_of(RELAY)),
        through(Address("/ip4/203.0.113.7/tcp/4001"), PEER),
        through(RELAY, PeerId("nobody")),
        f"{RELAY}/p2p-circuit",
        f"{through(RELAY, PEER)}/tcp/1",
    ],
)
def test_what_leads_through_no_relay_or_through_two_is_refused(address: str) -> None:
    with pytest.raises(Refused, match=r"network\.(address|peer_id)"):
        peer_of(Address(address))


def test_importing_the_network_does_not_load_libp2p() -> None:
    modules = (
        "fondaco.node.network.host, fondaco.node.network.links, fondaco.node.network.rpc, fondaco.node.gossip"
    )
    program = f"import sys, {modules}; sys.exit('libp2p' in sys.modules or 'multiaddr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("ip", "shared"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("2600:1901:0:1::5", "2600:1901:0:1::/64"),
        ("127.0.0.1", ""),
        ("192.168.1.5", ""),
        ("::1", ""),
        ("", ""),
    ],
)
def test_only_public_addresses_tell_peers_together(ip: str, shared: str) -> None:
    assert shared_address(ip) == shared
