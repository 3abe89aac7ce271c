"""Spending grants as proven records tell them. The ledger's rules are in `consensus.ledger.grants`."""

from __future__ import annotations

from fondaco.node.tenant.light import LightClient
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Scope
from fondaco.protocol.records import Account, SpendingGrant, key_account, key_grant
from fondaco.protocol.scalars import MicroCredits, PublicKey


async def grant(
    light: LightClient, granter: PublicKey, grantee: PublicKey, *, at_least: int = 0
) -> SpendingGrant | None:
    """What `granter` lets `grantee` spend, proven; None if nothing."""
    return await light.record(key_grant(granter, grantee), SpendingGrant, at_least=at_least)


async def check(light: LightClient, granter: PublicKey, grantee: PublicKey, deposit: MicroCredits) -> None:
    """See that a deposit for a new deployment can be paid by a grant, before anything is ordered.

    Raises `Refused` `grant.none`, `grant.scope`, `grant.limit` or `grant.funds`.
    """
    found = await grant(light, granter, grantee)
    if found is None:
        raise Refused("grant.none", "the payer has granted this account nothing", hint="see fondaco grant")
    if found.scope not in (Scope.OPEN, Scope.ANY):
        raise Refused("grant.scope", "the grant is not for new deployments")
    if found.spent + deposit > found.limit:
        left = found.limit - found.spent
        raise Refused("grant.limit", f"{left} ucredit are left of the grant, {deposit} are needed")
    account = await light.record(key_account(granter), Account)
    held = 0 if account is None else account.credits
    if held < deposit:
        raise Refused("grant.funds", f"{deposit} ucredit are needed, the payer's account holds {held}")
