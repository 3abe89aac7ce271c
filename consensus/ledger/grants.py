"""Spending grants: an account lets another pay deposits for it, up to a limit, for some things, until some time.

The money stays the granter's: a grant reserves nothing, a deposit is the granter's deposit, and what is left of it
goes back to the granter. Then the limit has that room again, as long as the grant is there.
"""

from __future__ import annotations

from dataclasses import replace

from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.state import State
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Event, GrantEnded, GrantSpent, SpendingGranted
from fondaco.protocol.messages import GrantSpending, RevokeSpending, Scope
from fondaco.protocol.records import SpendingGrant, key_grant, key_grant_expiry
from fondaco.protocol.scalars import BOUNDS, MicroCredits, Millis, PublicKey

GRANTS, EXPIRIES = b"grant/", b"grant-expiry/"
KEY_BYTES = BOUNDS[PublicKey][0]


def grant(context: Context, message: GrantSpending) -> None:
    """Raises `Refused` `grant.self`, `grant.zero`, `grant.expired`, `grant.expiry` or `grant.count`."""
    state, now = context.state, context.now
    if message.grantee == context.sender:
        raise Refused("grant.self", "an account needs no grant to spend its own credits")
    if not message.limit:
        raise Refused("grant.zero", "a grant allows at least one ucredit", hint="revoke it to end it")
    if message.expires_at < now:
        raise Refused("grant.expired", f"it would have expired {now - message.expires_at} ms ago")
    if message.expires_at > now + limits.GRANT_LIFE_MS:
        raise Refused("grant.expiry", f"a grant lasts for {limits.GRANT_LIFE_MS} ms at most")
    before = grant_of(state, context.sender, message.grantee)
    if before is None and len(state.scan(GRANTS + context.sender, limits.GRANTS)) >= limits.GRANTS:
        raise Refused("grant.count", f"an account gives {limits.GRANTS} grants at most", hint="revoke one")
    after = SpendingGrant(
        granter=context.sender,
        grantee=message.grantee,
        limit=message.limit,
        spent=MicroCredits(0),
        scope=message.scope,
        expires_at=message.expires_at,
    )
    _put(state, before, after)
    context.events.append(
        SpendingGranted(
            granter=after.granter,
            grantee=after.grantee,
            limit=after.limit,
            scope=after.scope,
            expires_at=after.expires_at,
        )
    )


def revoke(context: Context, message: RevokeSpending) -> None:
    """Raises `Refused` `grant.none`."""
    before = grant_of(context.state, context.sender, message.grantee)
    if before is None:
        raise Refused("grant.none", "this account was granted nothing")
    context.events.append(_drop(context.state, before, expired=False))


def spend(context: Context, granter: PublicKey, amount: int, scope: Scope) -> None:
    """Count what the sender pays from the granter's account; the caller takes it from there.

    Raises `Refused` `grant.none`, `grant.expired`, `grant.scope` or `grant.limit`.
    """
    before = grant_of(context.state, granter, context.sender)
    if before is None:
        raise Refused("grant.none", "the payer has granted the sender nothing")
    if before.expires_at < context.now:
        raise Refused("grant.expired", f"the grant expired {context.now - before.expires_at} ms ago")
    if before.scope not in (scope, Scope.ANY):
        raise Refused("grant.scope", f"the grant is for {before.scope.name}, not for {scope.name}")
    if before.spent + amount > before.limit:
        raise Refused("grant.limit", f"{before.limit - before.spent} ucredit are left, {amount} are needed")
    context.events.append(_spent(context.state, before, before.spent + amount))


def restore(state: State, events: list[Event], granter: PublicKey, grantee: PublicKey, amount: int) -> None:
    """Give the limit its room back after a refund; a grant that has ended, or was given anew, gets what fits."""
    before = grant_of(state, granter, grantee)
    if before is not None and before.spent:
        events.append(_spent(state, before, max(0, before.spent - amount)))


def forget_expired(state: State, *, now: Millis, limit: int = limits.GRANTS_FORGOTTEN_PER_BLOCK) -> list[Event]:
    """Drop grants whose time is over, the oldest first, at most `limit`."""
    events = list[Event]()
    for key, _ in state.scan_before(EXPIRIES, now, limit):
        named = key[len(EXPIRIES) + 8 :]
        record = key_grant(PublicKey(named[:KEY_BYTES]), PublicKey(named[KEY_BYTES:]))
        events.append(_drop(state, state.require(record, SpendingGrant), expired=True))
    return events


def grant_of(state: State, granter: PublicKey, grantee: PublicKey) -> SpendingGrant | None:
    return state.get(key_grant(granter, grantee), SpendingGrant)


def _spent(state: State, before: SpendingGrant, spent: int) -> GrantSpent:
    after = replace(before, spent=MicroCredits(spent))
    state.put(key_grant(after.granter, after.grantee), after)
    return GrantSpent(granter=after.granter, grantee=after.grantee, spent=after.spent)


def _put(state: State, before: SpendingGrant | None, after: SpendingGrant) -> None:
    if before is not None:
        state.put(key_grant_expiry(before.expires_at, before.granter, before.grantee), None)
    state.put(key_grant(after.granter, after.grantee), after)
    index = key_grant_expiry(after.expires_at, after.granter, after.grantee)
    state.put(index, after.granter + after.grantee)


def _drop(state: State, before: SpendingGrant, *, expired: bool) -> GrantEnded:
    state.put(key_grant(before.granter, before.grantee), None)
    state.put(key_grant_expiry(before.expires_at, before.granter, before.grantee), None)
    return GrantEnded(granter=before.granter, grantee=before.grantee, expired=expired)
