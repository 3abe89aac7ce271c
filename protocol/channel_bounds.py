"""Bounds of what a lease's channel is asked, beside those of bytes in `limits`: tokens, and how long to stop."""

from __future__ import annotations

CAPABILITY_SCOPES = 16
CAPABILITY_LIFE_MS = 31 * 86_400_000
"""The longest that a capability token is good for."""
CAPABILITY_EARLY_MS = 60_000
"""So much later than block time a token may have been made, or a moment be up to which all are revoked."""
REVOCATIONS = 64
"""Tokens that one call revokes by name."""
REVOCATIONS_PER_LEASE = 1_024
"""Revoked by name and not expired yet; beyond that only all of an age can be."""
STOP_GRACE_MS = 30_000
"""The longest that programs which were asked to end are waited for."""
