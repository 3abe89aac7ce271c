"""Hand-offs on the provider's disk: what a restart needs to know of the leases it serves.

The manifest stays sealed, as it came: who copies the disk without the provider's key reads nothing. A hand-off is
put down before anything is started for it and removed when its lease is over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.scalars import Height, LeaseId

SUFFIX = ".handoff"
log = logging.getLogger("fondaco.provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHandOff:
    TAG: ClassVar[int] = 250
    lease: LeaseId
    height: Height
    """Of the provider's view when it was taken: a view that is older cannot say that the lease is over."""
    sealed: bytes
    receipt: SignedReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUpdate:
    """An update that is not known to run yet, and what ran before it."""

    TAG: ClassVar[int] = 251
    newer: StoredHandOff
    older: StoredHandOff

    @property
    def lease(self) -> LeaseId:
        return self.newer.lease

    @property
    def height(self) -> Height:
        return self.newer.height


Stored = StoredHandOff | StoredUpdate


class HandOffStore:
    """One file a lease, in a folder only its owner can read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, stored: Stored) -> None:
        """Durable on return. Raises `OSError`."""
        write_durably(self._path(stored.lease), codec.encode(stored))

    def remove(self, lease: LeaseId) -> None:
        self._path(lease).unlink(missing_ok=True)

    def all(self) -> dict[LeaseId, Stored]:
        """Everything that is there. A file that cannot be read is left, and said."""
        found: dict[LeaseId, Stored] = {}
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                data = path.read_bytes()
                stored: Stored = codec.decode_union(data, Stored, limit=limits.HANDOFF_FILE_BYTES)
            except Malformed as error:
                log.error("the hand-off in %s cannot be read: %s", path.name, error)
                continue
            found[stored.lease] = stored
        return found

    def _path(self, lease: LeaseId) -> Path:
        return self._directory / f"{lease.hex()}{SUFFIX}"


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, readable by the owner only; on the disk on return."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
