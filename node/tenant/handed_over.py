"""What a provider says that it serves, held against the ledger and the tenant's own word."""

from __future__ import annotations

from dataclasses import dataclass, field

from fondaco.protocol import manifest
from fondaco.protocol.channel_calls import HandedOver
from fondaco.protocol.errors import Malformed, PeerFault, Refused
from fondaco.protocol.manifest import ManifestGroup
from fondaco.protocol.records import Lease
from fondaco.protocol.scalars import ChainId
from fondaco.protocol.signing import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A manifest that the lease's tenant has handed over: proven, whoever asks."""

    version: int
    newest: int
    """What the ledger counts: higher while an update has not been handed over, or did not come up."""
    manifest: bytes = field(repr=False)
    """Canonical JSON."""
    group: ManifestGroup


def check_served(chain: ChainId, lease: Lease, said: HandedOver) -> Served:
    """Judge what a provider gave back for `lease`, the ledger's record.

    Raises `Refused` `manifest.malformed`, `manifest.commitment` or `receipt.signature`.
    """
    receipt = said.receipt.receipt
    try:
        group = manifest.parse_group(said.manifest)
    except Malformed as error:
        raise Refused("manifest.malformed", f"the provider gave no manifest: {error.message}") from None
    commitment = manifest.commitment(said.salt, group)
    if receipt.lease != lease.id or commitment != receipt.commitment:
        raise Refused("manifest.commitment", "the provider gave another manifest than its receipt is for")
    if receipt.version == lease.version:
        if commitment != lease.commitment:
            raise Refused("manifest.commitment", "the provider gave another manifest than the ledger commits to")
    else:
        # The ledger keeps the newest commitment only; of another version the tenant's own receipt tells.
        try:
            require(chain, receipt, lease.tenant, said.receipt.signature)
        except PeerFault:
            raise Refused("receipt.signature", "the lease's tenant never handed that manifest over") from None
    return Served(version=receipt.version, newest=lease.version, manifest=said.manifest, group=group)
