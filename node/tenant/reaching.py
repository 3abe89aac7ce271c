"""Connecting to a provider: at the addresses that it signed, or wherever its peer has moved since."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fondaco.node.network.peers import Address, PeerId
from fondaco.node.tenant.light import LightClient
from fondaco.protocol.errors import FondacoError, Unreachable

log = logging.getLogger("fondaco.tenant")


async def reach(light: LightClient, peer: PeerId, addresses: Sequence[str], *, most: int | None = None) -> PeerId:
    """Be connected to `peer`, which the connection proves to be who it is, wherever it leads.

    `most`: so many of the addresses are tried. Raises `Unreachable` `provider.unreachable` with why the last one
    did not lead there.
    """
    if light.host.is_connected(peer):
        return peer
    error = await _dial(light, peer, addresses[:most])
    if error is not None:
        fresh = [address for address in await _moved(light, peer) if address not in addresses]
        if fresh:
            log.info("%s; %s is said to be at %s now", error, peer, fresh)
            error = await _dial(light, peer, fresh[:most])
    if error is not None:
        raise Unreachable("provider.unreachable", error)
    return peer


async def _moved(light: LightClient, peer: PeerId) -> Sequence[str]:
    """Where the table of peers says that it is now."""
    try:
        return await light.kad.find(peer)
    except FondacoError as error:
        log.info("%s", error)
        return []


async def _dial(light: LightClient, wanted: PeerId, addresses: Sequence[str]) -> str | None:
    """Why no address led there; None once one did."""
    why = "it names no address that leads to its peer"
    for address in addresses:
        try:
            if await light.host.connect(Address(address)) == wanted:
                return None
        except FondacoError as error:
            why = error.message
    return why
