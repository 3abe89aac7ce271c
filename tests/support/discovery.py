"""Peers that sign records of where they are, for tests of how nodes find each other."""

from __future__ import annotations

from collections.abc import Iterable

from fondaco.node.network.address_book import AddressBook
from fondaco.node.network.known_peers import Source
from fondaco.node.network.peers import Address, PeerId, peer_id_of
from fondaco.protocol.peer_record import open_record, seal
from fondaco.protocol.signing import Signer

OWN = peer_id_of(Signer(bytes(32)).public_key)
FAR = Source.peer(peer_id_of(Signer(b"\xff" * 32).public_key), "9.9.9.9")
"""A source in another network than all peers here."""
LOCAL = Source.local("test")
"""As if a user had said it."""


def signer(number: int) -> Signer:
    return Signer(number.to_bytes(32, "big"))


def peer(number: int) -> PeerId:
    return peer_id_of(signer(number).public_key)


def address(number: int, ip: str, port: int = 4001) -> Address:
    return Address(f"/ip4/{ip}/tcp/{port}/p2p/{peer(number)}")


def record(number: int, *ips: str, seq: int = 1) -> bytes:
    return seal(signer(number), seq, [f"/ip4/{ip}/tcp/4001" for ip in ips])


def learn(book: AddressBook, number: int, *ips: str, seq: int = 1, source: Source = FAR, now: int = 1_000) -> bool:
    data = record(number, *ips, seq=seq)
    return book.learn_record(data, open_record(data), source, now)


def book(peers: Iterable[tuple[int, str]] = (), *, seed: int = 1) -> AddressBook:
    made = AddressBook(OWN, seed=seed)
    for number, ip in peers:
        learn(made, number, ip)
    return made
