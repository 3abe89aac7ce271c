"""Bounds of relays and of the table of peers by key; every one is enforced where it is named."""

from __future__ import annotations

from fondaco.protocol.limits import KIB, MIB

# Relay
CIRCUIT_MESSAGE_BYTES = 4 * KIB
"""Of one HOP or STOP message, as the specification has it."""
CIRCUIT_ADDRESSES = 16
"""Addresses that a reservation or a peer in such a message may name."""
CIRCUIT_ANSWER_MS = 10_000
"""Within so long each message of a handshake comes."""
RESERVATIONS = 256
"""Peers that one relay keeps a place for."""
RESERVATIONS_PER_ADDRESS = 16
"""Of them behind one address, see `peers.shared_address`: a single host must not take all places."""
RESERVATION_MS = 3_600_000
RESERVATION_RETRY_MS = (1_000, 60_000)
"""First and longest wait after a relay that gave no place."""
CIRCUITS = 1_024
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
