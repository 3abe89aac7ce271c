"""What auditors say of providers: attested, taken back, expired, or no longer true.

An auditor confirms attributes that a provider states of itself, with their values. The confirmation dies with the
value: when a provider states another one, or none, what was said of the old one is dropped at once, so that going
back to it does not bring it to life again. So whatever stands in an `Attestation` is what the provider states now,
and whether it counts depends on the time alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fondaco.consensus.ledger.context import Context
from fondaco.consensus.ledger.state import State
from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import AttestationLost, Attested, Event, Loss
from fondaco.protocol.messages import Attest, Revoke
from fondaco.protocol.records import (
    Attestation,
    Provider,
    key_attestation,
    key_attestation_expiry,
    key_provider,
)
from fondaco.protocol.resources import Attribute, Placement
from fondaco.protocol.scalars import BOUNDS, Millis, PublicKey

ATTESTATIONS, EXPIRIES = b"attestation/", b"attestation-expiry/"
KEY_BYTES = BOUNDS[PublicKey][0]


def attest(context: Context, message: Attest) -> None:
    """Raises `Refused` `provider.unknown` or `attest.*`."""
    state, now = context.state, context.now
    provider = state.get(key_provider(message.provider), Provider)
    if provider is None:
        raise Refused("provider.unknown", "only a registered provider can be attested")
    if message.provider == context.sender:
        raise Refused("attest.self", "nobody audits itself")
    _check(message, provider, now=now)
    said = attestations_of(state, message.provider)
    others = [one for one in said if one.auditor != context.sender]
    if len(others) >= limits.AUDITORS_PER_PROVIDER:
        live = len(others) - _forget(state, others, context.events, now=now)
        if live >= limits.AUDITORS_PER_PROVIDER:
            raise Refused("attest.auditors", f"at most {limits.AUDITORS_PER_PROVIDER} auditors a provider")
    _put(
        state,
        next((one for one in said if one.auditor == context.sender), None),
        Attestation(
            provider=message.provider,
            auditor=context.sender,
            attributes=message.attributes,
            attested_at=now,
            expires_at=message.expires_at,
            evidence=message.evidence,
        ),
    )
    context.events.append(
        Attested(
            provider=message.provider,
            auditor=context.sender,
            attributes=message.attributes,
            expires_at=message.expires_at,
            evidence=message.evidence,
        )
    )


def _check(message: Attest, provider: Provider, *, now: Millis) -> None:
    keys = [one.key for one in message.attributes]
    if not 1 <= len(keys) <= limits.ATTRIBUTES or keys != sorted(set(keys)):
        raise Refused("attest.attributes", f"1..{limits.ATTRIBUTES} attributes, sorted by key, each key once")
    for one in message.attributes:
        if one not in provider.attributes:
            has = next((own.value for own in provider.attributes if own.key == one.key), None)
            states = "does not state it" if has is None else f"states {has[:80]!r}"
            raise Refused("attest.differs", f"{one.key[:80]} is {one.value[:80]!r}, the provider {states}")
    if message.expires_at <= now:
        raise Refused("attest.expired", f"it would have expired {now - message.expires_at} ms ago")
    if message.expires_at > now + limits.ATTESTATION_LIFE_MS:
        raise Refused("attest.expiry", f"it holds for {limits.ATTESTATION_LIFE_MS} ms at most")


def revoke(context: Context, message: Revoke) -> None:
    """Raises `Refused` `attest.sender` or `attest.unknown`."""
    if context.sender not in (message.auditor, message.provider):
        raise Refused("attest.sender", "only its auditor or its provider may end an attestation")
    before = context.state.get(key_attestation(message.provider, message.auditor), Attestation)
    if before is None:
        raise Refused("attest.unknown", "this auditor has attested nothing of this provider")
    context.events.append(_drop(context.state, before, Loss.REVOKED))


def attributes_changed(state: State, provider: PublicKey, own: Iterable[Attribute]) -> list[Event]:
    """Let what was attested die that `provider`, which states `own` from now on, no longer states.

    For whatever replaces a provider's record; one that is removed states nothing.
    """
    events, states = list[Event](), set(own)
    for before in attestations_of(state, provider):
        left = tuple(one for one in before.attributes if one in states)
        if not left:
            events.append(_drop(state, before, Loss.CHANGED))
        elif left != before.attributes:
            _put(state, before, replace(before, attributes=left))
            lost = tuple(one for one in before.attributes if one not in states)
            events.append(_lost(before, lost, Loss.CHANGED))
    return events


def forget_expired(
    state: State, *, now: Millis, limit: int = limits.ATTESTATIONS_FORGOTTEN_PER_BLOCK
) -> list[Event]:
    """Drop attestations whose time is over, the oldest first, at most `limit`."""
    events = list[Event]()
    for key, _ in state.scan_before(EXPIRIES, now, limit):
        named = key[len(EXPIRIES) + 8 :]
        record = key_attestation(PublicKey(named[:KEY_BYTES]), PublicKey(named[KEY_BYTES:]))
        events.append(_drop(state, state.require(record, Attestation), Loss.EXPIRED))
    return events


def attested(
    state: State, provider: PublicKey, placement: Placement, *, now: Millis
) -> dict[PublicKey, tuple[Attribute, ...]]:
    """What the auditors that a placement names say of `provider` now."""
    found = {}
    for auditor in (*placement.all_of, *placement.any_of):
        said = state.get(key_attestation(provider, auditor), Attestation)
        if said is not None and holds(said, now=now):
            found[auditor] = said.attributes
    return found


def attestations_of(state: State, provider: PublicKey) -> list[Attestation]:
    """All that stands on the ledger of one provider, by auditor; also what expired and is not forgotten yet."""
    found = state.scan(ATTESTATIONS + provider, limits.AUDITORS_PER_PROVIDER)
    return [codec.decode(raw, Attestation) for _, raw in found]


def holds(said: Attestation, *, now: Millis) -> bool:
    """Whether it counts at block time `now`."""
    return now <= said.expires_at


def _forget(state: State, said: Iterable[Attestation], events: list[Event], *, now: Millis) -> int:
    expired = [one for one in said if not holds(one, now=now)]
    events.extend(_drop(state, one, Loss.EXPIRED) for one in expired)
    return len(expired)


def _put(state: State, before: Attestation | None, after: Attestation) -> None:
    if before is not None:
        state.put(key_attestation_expiry(before.expires_at, before.provider, before.auditor), None)
    state.put(key_attestation(after.provider, after.auditor), after)
    index = key_attestation_expiry(after.expires_at, after.provider, after.auditor)
    state.put(index, after.provider + after.auditor)


def _drop(state: State, before: Attestation, cause: Loss) -> AttestationLost:
    state.put(key_attestation(before.provider, before.auditor), None)
    state.put(key_attestation_expiry(before.expires_at, before.provider, before.auditor), None)
    return _lost(before, before.attributes, cause)


def _lost(before: Attestation, attributes: tuple[Attribute, ...], cause: Loss) -> AttestationLost:
    return AttestationLost(provider=before.provider, auditor=before.auditor, attributes=attributes, cause=cause)
