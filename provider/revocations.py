"""Capability tokens that their tenants have revoked, on the provider's disk: a restart forgets none.

One file a lease, replaced whole. A token is remembered until it would have expired; beside that a moment, before
which everything issued is revoked. A file that cannot be read lets no token of its lease through, until its tenant
revokes all of them anew.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trio

from fondaco.protocol import channel_bounds, codec
from fondaco.protocol.capabilities import Capability
from fondaco.protocol.channel_calls import Revocation
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.scalars import Hash, LeaseId, Millis
from fondaco.provider.handoffs import write_durably

SUFFIX = ".revoked"
FILE_BYTES = 256 * channel_bounds.REVOCATIONS_PER_LEASE
_LEASE = re.compile("[0-9a-f]{64}")
log = logging.getLogger("fondaco.provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRevocations:
    """What is revoked of one lease."""

    TAG: ClassVar[int] = 252
    before: Millis
    """All that were issued before this moment."""
    tokens: tuple[Revocation, ...]


NOTHING = StoredRevocations(before=Millis(0), tokens=())


class Revocations:
    """Those of all leases, in a folder only its owner can read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[LeaseId, StoredRevocations | None] = {}
        """As they are on the disk; None: that cannot be read."""
        self._writing = trio.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def check(self, token: Hash, capability: Capability) -> None:
        """Raises `Refused` `capability.revoked`."""
        known = self._of(capability.lease)
        if known is None or _is_revoked(known, token, capability.issued_at):
            raise Refused("capability.revoked", "the tenant has revoked that token")

    async def add(self, lease: LeaseId, tokens: Iterable[Revocation], *, before: Millis, now: Millis) -> None:
        """Revoke tokens by name, and all that were issued before a moment; on the disk on return.

        Raises `Refused`: `capability.time` for a moment still far, `capability.full`, `provider.disk`.
        """
        if before > now + channel_bounds.CAPABILITY_EARLY_MS:
            raise Refused("capability.time", "that moment is still to come", hint="are the clocks right?")
        async with self._writing:
            known = self._of(lease)
            if known is None:
                if not before:
                    raise Refused(
                        "capability.full", "what was revoked before cannot be read here", hint="revoke all tokens"
                    )
                known = NOTHING
            kept = {one.token: one for one in (*known.tokens, *tokens) if one.expires_at > now}
            if len(kept) > channel_bounds.REVOCATIONS_PER_LEASE:
                raise Refused(
                    "capability.full",
                    f"{channel_bounds.REVOCATIONS_PER_LEASE} tokens of this lease are revoked by name",
                    hint="revoke all tokens that were issued so far",
                )
            names = tuple(kept[token] for token in sorted(kept))
            stored = StoredRevocations(before=max(before, known.before), tokens=names)
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(write_durably, self._path(lease), codec.encode(stored))
            except OSError as error:
                log.error("revocations not stored: %s", error, extra={"lease": lease.hex()})
                raise Refused("provider.disk", "the provider cannot store that", hint="try again later") from error
            self._known[lease] = stored

    def kept(self) -> list[LeaseId]:
        """Leases of which something is remembered."""
        names = (path.stem for path in self._directory.glob(f"*{SUFFIX}"))
        return sorted(LeaseId(bytes.fromhex(name)) for name in names if _LEASE.fullmatch(name))

    def forget(self, lease: LeaseId) -> None:
        """Of one that is over, and its tokens with it."""
        self._path(lease).unlink(missing_ok=True)
        self._known.pop(lease, None)

    def _of(self, lease: LeaseId) -> StoredRevocations | None:
        if lease not in self._known:
            self._known[lease] = self._load(self._path(lease))
        return self._known[lease]

    def _load(self, path: Path) -> StoredRevocations | None:
        try:
            return codec.decode(path.read_bytes(), StoredRevocations, limit=FILE_BYTES)
        except FileNotFoundError:
            return NOTHING
        except (Malformed, OSError) as error:
            log.error("the revocations in %s cannot be read: %s", path.name, error)
            return None

    def _path(self, lease: LeaseId) -> Path:
        return self._directory / f"{lease.hex()}{SUFFIX}"


def _is_revoked(known: StoredRevocations, token: Hash, issued_at: Millis) -> bool:
    return issued_at < known.before or any(one.token == token for one in known.tokens)
