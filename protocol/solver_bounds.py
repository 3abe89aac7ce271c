"""How much is tried to find what would draw bids; beside `limits`, for these bind nobody else."""

from __future__ import annotations

OPTIONS = 256
"""Bids and counter-offers, the cheapest, from which it is worked out."""
MOVES = 24
"""Different changes among those, the price apart."""
AT_ONCE = 3
"""Changes in one proposal, the price apart."""
SHOWN = 8
"""Proposals in one answer."""
BIDS_WANTED = 64
"""Bids on a group that a tenant may insist on."""
