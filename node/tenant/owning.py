"""Whose a deployment on file is: a home may hold several keys, and each has deployments of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fondaco.node.keys.keystore import Keystore
from fondaco.node.tenant import services
from fondaco.node.tenant.records import DeploymentFile
from fondaco.node.tenant.services import Service
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant


def check(tenant: Tenant, file: DeploymentFile) -> None:
    """Raise `Refused` `keys.not_owner` if another key than the tenant's made it; of old files nobody knows."""
    if file.owner is not None:
        check_key(tenant, file.owner, repr(file.name))


def check_key(tenant: Tenant, owner: PublicKey, what: str) -> None:
    """Likewise for anything that a key made."""
    own = tenant.wallet.signer.public_key
    if owner == own:
        return
    here = Keystore(tenant.home / "keys").name_of(owner)
    whose = f"the key {here!r}" if here else f"{addresses.encode(owner)}, a key that is not in this home"
    raise Refused(
        "keys.not_owner",
        f"{what} is of {whose}, and this is {label(tenant.home, own)!r}",
        hint=f"add --key {here}" if here else "restore that key from its words: fondaco keys restore",
    )


def find_service(tenant: Tenant, name: str) -> Service:
    """As `services.find`, but only what is this tenant's. Raises `Refused` `keys.not_owner`, too."""
    found = services.find(tenant.home, tenant.folder, name, owner=tenant.wallet.signer.public_key)
    check_service(tenant, found)
    return found


def check_service(tenant: Tenant, service: Service) -> None:
    """Raise `Refused` `keys.not_owner` if another key made any of its replicas."""
    for file in services.files(service, tenant.folder).values():
        check(tenant, file)


def label(home: Path, key: PublicKey) -> str:
    """What people call a key: its name in the home, or its address."""
    return Keystore(home / "keys").name_of(key) or addresses.encode(key)
