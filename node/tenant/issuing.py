"""Making and destroying credits, for the issuer that genesis names; how much there is then, proven."""

from __future__ import annotations

from fondaco.node.tenant.wallet import Wallet
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Burn, Mint
from fondaco.protocol.records import SUPPLY, Supply

FEES = 10_000
"""Ucredit that a transaction of this kind surely costs no more than."""


async def issue(wallet: Wallet, message: Mint | Burn) -> tuple[int, Supply]:
    """Mint or burn; the height, and all the money there is then. Raises `Refused` `issuer.*`, `supply.limit`."""
    await wallet.ensure(FEES)
    height = await wallet.transact(message)
    supply = await wallet.light.record(SUPPLY, Supply, at_least=height)
    if supply is None:
        raise Refused("chain.no_params", "this chain has no money")
    return height, supply
