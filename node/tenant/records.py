"""What a tenant keeps of its deployments on its own disk: enough to go on from another process.

One file a deployment, under the tenant's home. The blinding salt in it is what proves later which manifest was
committed to, so the files are readable by their owner alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fondaco.node.files import write_atomically
from fondaco.protocol import addresses, codec
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import BlindingSalt, DeploymentId, LeaseId, PublicKey

SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFile:
    """One lease of a deployment, and where its provider is reached."""

    lease: LeaseId
    provider: PublicKey
    peer: str
    addresses: tuple[str, ...]
    salt: BlindingSalt = field(repr=False)
    manifest: bytes = field(repr=False)
    """Canonical JSON of the group's manifest."""
    group: Group | None
    """As it was ordered; None in files of before that was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFile:
    deployment: DeploymentId
    name: str
    """What the tenant calls it: the SDL file's name, unless given."""
    leases: tuple[LeaseFile, ...]
    owner: PublicKey | None = None
    """The key that made it; None in files of before that was kept."""

    def is_of(self, key: PublicKey) -> bool:
        """Whether it is this key's, as far as the file says."""
        return self.owner in (None, key)


def save(folder: Path, record: DeploymentFile) -> None:
    """Write a deployment's file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {
        "deployment": record.deployment.hex(),
        "name": record.name,
        "owner": None if record.owner is None else record.owner.hex(),
        "leases": [
            {
                "lease": one.lease.hex(),
                "provider": one.provider.hex(),
                "peer": one.peer,
                "addresses": list(one.addresses),
                "salt": one.salt.hex(),
                "manifest": one.manifest.decode(),
                "group": None if one.group is None else codec.encode(one.group).hex(),
            }
            for one in record.leases
        ],
    }
    write_atomically(path_of(folder, record), json.dumps(document, indent=2).encode())


def forget(folder: Path, record: DeploymentFile) -> None:
    """Away with the file of a deployment that never came about."""
    path_of(folder, record).unlink(missing_ok=True)


def path_of(folder: Path, record: DeploymentFile) -> Path:
    """Where it is kept."""
    return folder / f"{record.deployment.hex()}.json"


def load_all(folder: Path) -> list[DeploymentFile]:
    """Every deployment on file, oldest first. Raises `Refused` `deployments.malformed`."""
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [_read(path) for path in paths]


def load(folder: Path, deployment: DeploymentId) -> DeploymentFile | None:
    """One deployment's file; None if there is none. Raises `Refused` `deployments.malformed`."""
    path = folder / f"{deployment.hex()}.json"
    return _read(path) if path.exists() else None


def written_at(folder: Path, deployment: DeploymentId) -> int:
    """When a deployment's file was written last, in ms; 0 if there is none."""
    try:
        return (folder / f"{deployment.hex()}.json").stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0


def keep_signed(folder: Path, deployment: DeploymentId, raw: bytes) -> None:
    """Put a transaction that changes a deployment beside its file, to be sent again after a crash."""
    write_atomically(_signed(folder, deployment), raw)


def kept_signed(folder: Path, deployment: DeploymentId) -> bytes | None:
    try:
        return _signed(folder, deployment).read_bytes()
    except FileNotFoundError:
        return None


def drop_signed(folder: Path, deployment: DeploymentId) -> None:
    """What became of it is known."""
    _signed(folder, deployment).unlink(missing_ok=True)


def _signed(folder: Path, deployment: DeploymentId) -> Path:
    return folder / f"{deployment.hex()}.signed"


def find(folder: Path, text: str, *, owner: PublicKey | None = None) -> tuple[DeploymentFile, LeaseFile]:
    """The lease that `text` means: the start of a lease or deployment id, or a deployment's name.

    Where several match the newest wins for a name, those of `owner` before others, and an id must be unique.
    Raises `Refused` `lease.not_found` or `lease.ambiguous`.
    """
    known = load_all(folder)
    named = [record for record in known if record.name == text]
    if named:
        own = [record for record in named if owner is None or record.is_of(owner)]
        newest = (own or named)[-1]
        return newest, newest.leases[0]
    matches = [
        (record, lease)
        for record in known
        for lease in record.leases
        if len(text) >= SHORTEST_PREFIX
        and (lease.lease.hex().startswith(text) or record.deployment.hex().startswith(text))
    ]
    if not matches:
        raise Refused(
            "lease.not_found", f"no deployment here is called {text!r}", hint="list them: fondaco status"
        )
    if len({lease.lease for _, lease in matches}) > 1:
        raise Refused("lease.ambiguous", f"{len(matches)} leases start with {text!r}: give more of the id")
    return matches[0]


def _read(path: Path) -> DeploymentFile:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return DeploymentFile(
            deployment=DeploymentId(bytes.fromhex(document["deployment"])),
            name=document["name"],
            owner=_owner(document.get("owner")),
            leases=tuple(
                LeaseFile(
                    lease=LeaseId(bytes.fromhex(one["lease"])),
                    provider=PublicKey(bytes.fromhex(one["provider"])),
                    peer=one["peer"],
                    addresses=tuple(one["addresses"]),
                    salt=BlindingSalt(bytes.fromhex(one["salt"])),
                    manifest=one["manifest"].encode(),
                    group=_group(one.get("group")),
                )
                for one in document["leases"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Malformed) as error:
        raise Refused("deployments.malformed", f"{path}: {error}", hint="move the file away") from None


def _group(kept: str | None) -> Group | None:
    return None if kept is None else codec.decode(bytes.fromhex(kept), Group)


def _owner(kept: str | None) -> PublicKey | None:
    if kept is None:
        return None
    key = PublicKey(bytes.fromhex(kept))
    if len(key) != addresses.KEY_BYTES:
        raise ValueError(f"its owner has {len(key)} bytes")
    return key
