"""What a session of the lease channel tells its side (channel.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fondaco.protocol.capabilities import Capability
from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import LeaseId, PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeted:
    """To the provider: somebody claims this lease; answer with `challenge`, or `fail`."""

    lease: LeaseId
    caller: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenged:
    """To the tenant: the provider has proven itself; go on with `request`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """To the provider: the caller has proven itself and asks this; answer with `accept`, or `fail`."""

    method: str
    params: bytes
    capability: Capability | None = None
    """None: it is the tenant. Else another, by this token: what that lets through is for `admit` to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """To the tenant: the call was accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Data came; once the application has taken it, tell `consumed`."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """The peer takes more: look at `may_send` again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The peer sends nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The peer ended the call."""

    error: Refused | Unreachable


Event: TypeAlias = Greeted | Challenged | Called | Opened | Received | Credited | Ended | Failed
