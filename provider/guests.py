"""Those who call by a token of a tenant's: let in as far as it goes, and cut off when it ends.

A tenant's own calls pass through here as well, and nothing is asked of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from fondaco.protocol.capabilities import Capability, admit, capability_id
from fondaco.protocol.channel_events import Called
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import Hash, LeaseId
from fondaco.provider.ports import ChainView
from fondaco.provider.revocations import Revocations


class Guest:
    """One open call; its work is to be done within `scope`."""

    def __init__(self, token: Hash | None, capability: Capability | None) -> None:
        self.token = token
        self.capability = capability
        self.scope = trio.CancelScope()
        self.ended: Refused | None = None
        """Why it was cut off."""

    def cut(self, error: Refused) -> None:
        """End the call, whatever it is doing."""
        self.ended = error
        self.scope.cancel()

    async def expire(self, chain: ChainView) -> None:
        """Cut it off when its token expires; returns at once for a tenant."""
        if self.capability is None:
            return
        height = chain.height
        while chain.now() < self.capability.expires_at:
            height = await chain.wait_above(height)
        self.cut(Refused("capability.expired", "the token has expired within the call"))


class Guests:
    """All calls open now."""

    def __init__(self, chain: ChainView, revocations: Revocations) -> None:
        self._chain = chain
        self._revocations = revocations
        self._here: set[Guest] = set()

    @contextmanager
    def admitted(self, called: Called, params: object) -> Iterator[Guest]:
        """Judge a call whose parameters were decoded, and hold it while it is open.

        Raises `Refused` as `capabilities.admit`, or `capability.revoked`.
        """
        capability = called.capability
        token = None
        if capability is not None:
            admit(capability, called.method, params, now=self._chain.now())
            token = capability_id(self._chain.id, capability)
            self._revocations.check(token, capability)
        guest = Guest(token, capability)
        self._here.add(guest)
        try:
            yield guest
        finally:
            self._here.discard(guest)

    def cut_revoked(self, lease: LeaseId) -> int:
        """End all open calls of a lease whose tokens have been revoked; how many that were."""
        ended = 0
        for guest in self._here:
            if guest.token is None or guest.capability is None or guest.capability.lease != lease:
                continue
            try:
                self._revocations.check(guest.token, guest.capability)
            except Refused as error:
                guest.cut(error)
                ended += 1
        return ended
