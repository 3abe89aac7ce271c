"""How much one round between two books may cost, and how often there is one."""

from __future__ import annotations

from fondaco.protocol.limits import KIB, MIB

ROUND_MS = 3_000
"""From one round to the next, half as much or half as long again by chance."""
ROUND_SOON_MS = 500
"""After a round that had to leave something for the next."""
ROUND_LASTS_MS = 10_000
"""Then a round ends, whatever the neighbour: a slow one shall not hold up the others."""
ROUND_TRIES = 4
"""Neighbours that are tried until there is a round: some may only gossip."""
ROUND_CALLS = 64
"""Questions of one round, and with the next two what one neighbour can make us do in it."""
ROUND_ITEMS = 1_024
ROUND_BYTES = 4 * MIB
LISTED_BUCKETS = 32
"""Buckets whose ids are asked for at once."""
LISTED_IDS = 4_096
"""Ids in one answer."""
PULL_ITEMS = 256
"""Items asked for at once."""
PULL_BYTES = 512 * KIB
"""Items in one answer, besides the first."""
SERVED_BYTES = 8 * MIB
"""What one neighbour may ask of us at once, in bytes of answers; it grows back with time."""
SERVED_BYTES_PER_S = 512 * KIB
CALL_BYTES = 1 * KIB
"""What a question costs of that by itself."""
OFFERS = 1_000
"""Providers whose offer a book holds."""
OFFER_BYTES = 8 * KIB
OFFER_LINES = 64
OFFER_LIFE_MS = 900_000
OFFER_EVERY_MS = 10_000
"""A provider's offer takes the place of its last one no sooner than so much later."""
