"""The frames of `/fondaco/lease/1` (channel.py says how they follow each other). Tags 120-129."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol import codec, limits
from fondaco.protocol.capabilities import SignedCapability
from fondaco.protocol.errors import FondacoError, Refused, Unreachable
from fondaco.protocol.scalars import Hash, LeaseId, PublicKey, Signature
from fondaco.protocol.signing import sha256

VERSION = 1
TOKEN_VERSION = 2
"""A `Hello` of this version is a token holder's, whose request is a `TokenRequest`; older providers refuse it."""
NO_REQUEST = Hash(bytes(32))
"""Stands in the provider's binding, which is made before anything was asked."""
DATA_BYTES = limits.CHANNEL_FRAME_BYTES - 64
"""The most that one data frame carries, so that it fits a frame."""


class Role(enum.IntEnum):
    TENANT = 1
    """Or who calls in its place."""
    PROVIDER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelBinding:
    """What each side signs; never sent, since both know all of it."""

    TAG: ClassVar[int] = 120
    lease: LeaseId
    caller: PublicKey
    """The tenant, or who holds a token of the tenant's."""
    provider: PublicKey
    tenant_peer: str
    provider_peer: str
    tenant_nonce: Hash
    provider_nonce: Hash
    role: Role
    request: Hash
    """SHA-256 of the method, its parameters and the token, if any; `NO_REQUEST` from the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    TAG: ClassVar[int] = 121
    version: int
    lease: LeaseId
    caller: PublicKey
    nonce: Hash
    """Thirty-two random bytes, for this stream only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    TAG: ClassVar[int] = 122
    provider: PublicKey
    nonce: Hash
    proof: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    TAG: ClassVar[int] = 123
    proof: Signature
    method: str
    params: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A `Request` by the holder of a token. It comes after the provider's proof: no other sees the token."""

    TAG: ClassVar[int] = 129
    proof: Signature
    """The holder's."""
    method: str
    params: bytes
    token: SignedCapability


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    TAG: ClassVar[int] = 124


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    TAG: ClassVar[int] = 125
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    TAG: ClassVar[int] = 126
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Nothing more comes in this direction; the other goes on."""

    TAG: ClassVar[int] = 127


class FailureKind(enum.IntEnum):
    REFUSED = 1
    UNREACHABLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Ends the whole call, and says why."""

    TAG: ClassVar[int] = 128
    kind: FailureKind
    code: str
    message: str
    hint: str

    def error(self) -> Refused | Unreachable:
        """The error that the other side's caller sees."""
        kind = Refused if self.kind is FailureKind.REFUSED else Unreachable
        return kind(self.code, self.message, hint=self.hint)


Frame = Hello | Challenge | Request | TokenRequest | Accepted | Data | Credit | End | Failure


def failure(error: FondacoError) -> Failure:
    """What tells the peer of `error`; its texts are cut to what a frame may hold."""
    kind = FailureKind.UNREACHABLE if isinstance(error, Unreachable) else FailureKind.REFUSED
    code, message, hint = (_cut(text) for text in (error.code, error.message, error.hint))
    return Failure(kind=kind, code=code, message=message, hint=hint)


def request_hash(method: str, params: bytes, token: SignedCapability | None = None) -> Hash:
    """What a caller's proof says of its request: with a token, that it is this one that is used."""
    if token is None:
        return sha256(codec.encode((method, params)))
    return sha256(codec.encode((method, params, sha256(codec.encode(token)))))


def _cut(text: str) -> str:
    return text.encode()[: limits.TEXT_BYTES // 4].decode(errors="ignore")
