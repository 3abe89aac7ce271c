"""Bounds of relays and of the table of peers by key; every one is enforced where it is named."""

from __future__ import annotations

from fondaco.protocol.limits import KIB, MIB

ANSWER_MS = 10_000
"""Within so long a message comes that was asked for."""

# Relay
CIRCUIT_MESSAGE_BYTES = 4 * KIB
"""Of one HOP or STOP message, as the specification has it."""
CIRCUIT_ADDRESSES = 16
"""Addresses that a reservation or a peer in such a message may name."""
RESERVATIONS = 256
"""Peers that one relay keeps a place for."""
RESERVATIONS_PER_ADDRESS = 16
"""Of them behind one address, see `peers.shared_address`: a single host must not take all places."""
RESERVATION_MS = 3_600_000
RESERVATION_RETRY_MS = (1_000, 60_000)
"""First and longest wait after a relay that gave no place."""
CIRCUITS = 512
"""Open at once on one relay."""
CIRCUITS_TO_PEER = 64
"""Of them towards one peer with a place; the multiplexer would stop at some 250."""
CIRCUITS_FROM_PEER = 16
CIRCUITS_FROM_ADDRESS = 64
CIRCUIT_LIFE_MS = 4 * 3_600_000
CIRCUIT_BYTES = 1_024 * MIB
"""Both directions of one circuit together."""
CIRCUIT_IDLE_MS = 60_000
"""A circuit on which nothing moves is ended; the hosts at its ends ping each other every few seconds."""
CIRCUITS_IN = 256
"""Circuits that a peer behind relays has open towards itself, all its relays together."""
RELAYS = 4
"""Relays that a node keeps a place with."""

# Table of peers by key
KAD_MESSAGE_BYTES = 64 * KIB
KAD_KEY_BYTES = 64
"""A key is a peer's id; so are the ids of peers."""
KAD_PEERS = 40
"""Peers that one message may name, closer ones and providers each."""
KAD_ADDRESSES = 8
KAD_ADDRESS_BYTES = 256
KAD_BUCKET = 20
"""Peers kept for one distance, told in one answer, and told of oneself: the paper's k."""
KAD_BUCKET_PER_NETWORK = 4
KAD_PARALLEL = 3
"""Questions of one search at a time: the paper's alpha."""
KAD_QUERIES = 60
"""Questions of one search in all."""
KAD_HEARD = 400
"""Peers that one search keeps in mind."""
KAD_SAYINGS = 8_192
"""Peers whose addresses one node keeps for others."""
KAD_SAYINGS_PER_NETWORK = 256
KAD_SAYING_MS = 2 * 3_600_000
KAD_REFRESH_MS = 20 * 60_000
"""How often a node says anew where it is, and looks for whoever came near it."""
KAD_REFRESH_SOON_MS = 5_000
"""The same at first while nobody was found who would keep what it says; doubled each time."""
KAD_SEARCH_MS = 30_000
"""Then a search ends with what it has found."""
KAD_SEARCHES = 4
"""Searches of one node at a time; more wait."""
KAD_ASK_MS = 8_000
"""Connecting to a peer, asking it and having its answer."""
KAD_DIALS = 3
"""Addresses of one peer that are tried."""
KAD_MEETINGS = 16
"""Peers that are asked at a time whether they serve."""
KAD_SERVED_PER_STREAM = 64
KAD_IDLE_MS = 30_000
"""A stream on which nothing is asked for so long is ended."""
KAD_SERVED = 256
"""Streams that are served at a time."""
KAD_SERVED_PER_PEER = 4
KAD_REQUESTS = 240
"""Of one peer within `KAD_REQUESTS_MS`."""
KAD_REQUESTS_MS = 60_000

# Local network
MDNS_RETRY_MS = 60_000
MDNS_ANSWER_MS = 3_000
MDNS_PENDING = 64
"""Names that wait to be asked where they are."""
MDNS_ADDRESSES = 16
"""Addresses that are told, and taken from one answer."""
