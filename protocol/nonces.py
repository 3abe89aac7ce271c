"""Nonces that were used before, as many as one can remember."""

from __future__ import annotations

from collections import OrderedDict

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Hash, PublicKey


class SeenNonces:
    """Nonces that proven tenants have used with this provider, the newest `limits.CHANNEL_NONCES`.

    The provider's own nonce already keeps proofs from being replayed. This finds the tenant whose randomness
    repeats, before that tenant relies on it.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[PublicKey, Hash], None] = OrderedDict()

    def check(self, tenant: PublicKey, nonce: Hash) -> None:
        """Raise `Refused` `channel.nonce` if `tenant` has used `nonce` before."""
        if (tenant, nonce) in self._seen:
            raise Refused(
                "channel.nonce", "this nonce was used before", hint="open a stream with fresh randomness"
            )

    def add(self, tenant: PublicKey, nonce: Hash) -> None:
        self._seen[tenant, nonce] = None
        while len(self._seen) > limits.CHANNEL_NONCES:
            self._seen.popitem(last=False)
