"""Capability tokens: a tenant lets others use some methods of one lease's channel, for a while.

A token is a `Capability` that the lease's tenant signed. It says in full what it is good for, so that it is good
for nothing else: which lease, at which provider (`audience`), in whose hands (`holder`, whose key proves itself at
every call: the token alone opens nothing), for which methods, and until when. None can be made out of another.

What it lets through is named, method by method. A method that comes with a later version is in no token made
before, and those that end or hand on what the tenant has (`close`, `revoke`) can be in none. Tags 220-229.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import channel_bounds
from fondaco.protocol import channel_calls as calls
from fondaco.protocol.channel_exec import EXEC
from fondaco.protocol.errors import Refused
from fondaco.protocol.records import Lease, LeaseState
from fondaco.protocol.scalars import ChainId, Hash, LeaseId, Millis, PublicKey, Salt, Signature
from fondaco.protocol.signing import Verify, message_id, signing_bytes, verify

GRANTABLE: Mapping[str, tuple[str, ...]] = {
    calls.ATTESTATION: (),
    calls.EVENTS: (),
    EXEC: ("service",),
    calls.FORWARD: ("service", "port"),
    calls.GET_MANIFEST: (),
    calls.LOGS: ("service",),
    calls.PUT_MANIFEST: (),
    calls.STATUS: (),
    calls.USAGE: ("service",),
}
"""Methods that a token may let through, and by what each may be narrowed: fields of its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One method, or less of it. As text: `logs`, `exec:web`, `forward:web:8080`."""

    method: str
    service: str = ""
    """Only of this service; empty: of any."""
    port: int = 0
    """Only to this port; 0: to any."""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return self.method + (f":{self.service}{port}" if self.service else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What one holder may do with one lease at one provider."""

    TAG: ClassVar[int] = 220
    lease: LeaseId
    audience: PublicKey
    """The provider it is shown to; worthless at any other."""
    holder: PublicKey
    scopes: tuple[Scope, ...]
    """In ascending order of (method, service, port)."""
    issued_at: Millis
    expires_at: Millis
    """In block time, as the provider knows it."""
    salt: Salt


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCapability:
    """Signed by the tenant of the lease."""

    TAG: ClassVar[int] = 221
    capability: Capability
    signature: Signature


def capability_id(chain: ChainId, capability: Capability) -> Hash:
    """Names it where it is revoked."""
    return message_id(chain, capability)


def parse_scope(text: str) -> Scope:
    """The scope that `text` names. Raises `Refused` `capability.scope`."""
    method, *limited = text.split(":")
    if method not in GRANTABLE:
        raise Refused("capability.scope", f"{method!r} is nothing to share", hint=", ".join(GRANTABLE))
    if len(limited) > len(GRANTABLE[method]) or not all(limited):
        fields = "".join(f"[:{field.upper()}]" for field in GRANTABLE[method])
        raise Refused("capability.scope", f"{text!r} limits what cannot be limited", hint=f"{method}{fields}")
    service, port = (*limited, "", "")[:2]
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise Refused("capability.scope", f"{port!r} is no port")
    return Scope(method=method, service=service, port=int(port or 0))


def in_order(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """As a capability holds them: each once, ascending."""
    return tuple(sorted(set(scopes), key=_order))


def _order(scope: Scope) -> tuple[str, str, int]:
    return scope.method, scope.service, scope.port


def check_capability(capability: Capability) -> None:
    """Judge it by itself. Raises `Refused` `capability.scopes` or `capability.life`."""
    scopes = capability.scopes
    if not 1 <= len(scopes) <= channel_bounds.CAPABILITY_SCOPES or scopes != in_order(scopes):
        most = channel_bounds.CAPABILITY_SCOPES
        raise Refused("capability.scopes", f"a token has 1..{most} scopes, each once and in ascending order")
    if not 0 < capability.expires_at - capability.issued_at <= channel_bounds.CAPABILITY_LIFE_MS:
        days = channel_bounds.CAPABILITY_LIFE_MS // 86_400_000
        raise Refused("capability.life", f"a token lives for at most {days} days")


def identify(
    chain: ChainId,
    signed: SignedCapability,
    *,
    lease: Lease,
    audience: PublicKey,
    holder: PublicKey,
    check: Verify = verify,
) -> None:
    """Judge whether a token is one of this lease's tenant, for this provider and in these hands.

    Raises `Refused`: `lease.closed`, `capability.lease`, `capability.audience`, `capability.holder`,
    `capability.signature`, or what `check_capability` does. What it lets through is judged by `admit`.
    """
    capability = signed.capability
    if capability.lease != lease.id:
        raise Refused("capability.lease", "that token is for another lease")
    if capability.audience != audience or lease.provider != audience:
        raise Refused("capability.audience", "that token is for another provider")
    if capability.holder != holder:
        raise Refused("capability.holder", "that token is in other hands: its holder's key is needed")
    if not check(lease.tenant, signing_bytes(chain, capability), signed.signature):
        raise Refused("capability.signature", "the tenant of the lease did not sign this token")
    check_capability(capability)
    if lease.state is LeaseState.CLOSED:
        raise Refused("lease.closed", "the lease is over, and with it every token for it")


def admit(capability: Capability, method: str, params: object, *, now: Millis) -> None:
    """Judge a call that comes with an identified token; `params` is the decoded message.

    Raises `Refused` `capability.early`, `capability.expired` or `capability.scope`.
    """
    if capability.issued_at > now + channel_bounds.CAPABILITY_EARLY_MS:
        raise Refused("capability.early", "that token is of a time to come", hint="are the clocks right?")
    if capability.expires_at <= now:
        raise Refused("capability.expired", "that token has expired", hint="ask the tenant for another one")
    if not any(_lets(scope, method, params) for scope in capability.scopes):
        told = ", ".join(map(str, capability.scopes))[:200]
        raise Refused("capability.scope", f"that token does not let this {method[:32]!r} through, but {told}")


def _lets(scope: Scope, method: str, params: object) -> bool:
    """Whether everything that a scope says is so: what a call cannot say is not so."""
    if scope.method != method or method not in GRANTABLE:
        return False
    if scope.service and getattr(params, "service", None) != scope.service:
        return False
    return not scope.port or getattr(params, "port", None) == scope.port
