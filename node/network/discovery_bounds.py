"""Every number of how nodes find each other, with its reason where one is needed."""

from __future__ import annotations

# The address book
NEW_PEERS = 4_096
"""Peers heard of that never answered us."""
NEW_PER_SOURCE = 256
"""Of those, what one source may fill: a peer, or for public ones all in a region."""
NEW_PER_REGION = 128
NEW_PER_BLOCK = 8
TRIED_PEERS = 1_024
"""Peers that once answered us where the book says that they are."""
TRIED_PER_REGION = 64
TRIED_PER_BLOCK = 4
PEER_ADDRESSES = 4
"""Addresses kept of one peer, besides its record."""
NEW_FAILURES = 3
"""A peer that never answered is forgotten after so many attempts,"""
TRIED_FAILURES = 10
"""one that once did after so many in a row, not before `TRIED_GRACE_MS` after it last did."""
TRIED_GRACE_MS = 7 * 86_400_000
TRIED_FRESH_MS = 4 * 3_600_000
"""A peer that answered so lately keeps its place among the tried, whoever else comes from its network."""
NEW_LIFE_MS = 30 * 86_400_000
TRIED_LIFE_MS = 90 * 86_400_000
RETRY_MS = (5_000, 3_600_000)
"""First and longest pause before a learnt address is dialled again; each failure doubles it."""

# Exchange
RECORDS_TOLD = 32
"""In one answer."""
RECORDS_PER_SOURCE = (128, 2)
"""Signatures checked for one source in a burst, and further ones a second."""
ANSWERS_PER_PEER = (4, 0.1)
"""Questions of one peer answered in a burst, and further ones a second."""
ASK_MS = (15_000, 300_000)
"""Between two questions to neighbours: while peers are missing, and else."""
BUDGETS = 4_096
"""Sources whose budget is remembered."""

# Dialling
MIN_PEERS, MAX_PEERS = 3, 8
DIALS_AT_ONCE = 3
DIAL_PAUSE_MS = (100, 5_000)
"""Between two looks at whether to dial: when the last found somebody to dial, and when it found nobody."""
SUGGESTED_DIALS = 16
"""Peers that neighbours suggested and that wait to be dialled."""
FEELER_MS = 120_000
"""Between two tests of peers that never answered; a node that has all the peers it wants learns so who is real."""
GRACE_MS = 2_000
"""Peers of the configuration have so long to come up before others are dialled in their place."""
BRIEF_MS = 15_000
"""A connection that lasts no longer counts as an attempt that failed."""
FLUSH_MS = 5_000
"""Between two writings of what changed in the book."""
