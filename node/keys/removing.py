"""What stands against removing or renaming a key: a node that works with it, leases that it may hold."""

from __future__ import annotations

from pathlib import Path

from fondaco.node import config
from fondaco.node.genesis_file import read_genesis
from fondaco.node.keys.keystore import KeyInfo
from fondaco.node.tenant import records
from fondaco.node.tenant.connection import open_light
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.records import Lease, LeaseState, key_lease

ROLES = ("node", "validator", "provider")


def check_unused(home: Path, name: str) -> None:
    """Raise `Refused` `keys.in_use` if the node in `home` works with this key: it looks for it by its name."""
    if name not in ROLES or not (home / "node.toml").exists():
        return
    settings = config.load(home)
    if (
        name == "node"
        or (name == "validator" and settings.validator)
        or (name == "provider" and settings.provider)
    ):
        raise Refused("keys.in_use", f"the node in {home} works with the key {name!r}")


async def check_leases(home: Path, key: KeyInfo) -> None:
    """Raise `Refused` `keys.holds_leases` unless every lease on file that may be the key's has ended, proven.

    Where no node can be asked, nothing is known to have ended.
    """
    files = [one for one in records.load_all(home / "deployments") if one.is_of(key.public_key)]
    if not files:
        return
    try:
        async with open_light(home, read_genesis(home / "genesis.json")) as light:
            found = [await light.record(key_lease(lease.lease), Lease) for one in files for lease in one.leases]
    except Unreachable as error:
        raise Refused(
            "keys.holds_leases",
            f"{key.name!r} has {len(files)} deployments on file, and nobody says whether they have ended: {error}",
            hint="again when the network can be reached, or with --force",
        ) from None
    live = [one for one in found if one and one.tenant == key.public_key and one.state is not LeaseState.CLOSED]
    if live:
        first = live[0].id.hex()[:12]
        raise Refused(
            "keys.holds_leases",
            f"{key.name!r} holds {len(live)} leases that have not ended",
            hint=f"fondaco close {first} --key {key.name}",
        )
