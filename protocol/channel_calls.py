"""What can be called on a lease's channel: method names, their parameters and the items they give back.

| method | parameters | data from the provider | data from the tenant |
|---|---|---|---|
| `put_manifest` | `PutManifest` | `Progress`, one a frame, until it runs or is refused | none |
| `status` | `StatusRequest` | one `Status` | none |
| `logs` | `LogsRequest` | `LogItem`, one a frame | none |
| `events` | `EventsRequest` | `LeaseEvent`, one a frame | none |
| `usage` | `UsageRequest` | `Usage`, one a frame for each replica that runs | none |
| `forward` | `ForwardRequest` | what the workload sends, as it comes | what it is to receive |
| `exec` | `ExecRequest` | `Output`, one a frame, then `Exited` | `Input`, `Resize`, `Signal`, `InputEnd` |
| `get_manifest` | `GetManifest` | one `HandedOver`, in pieces | none |
| `attestation` | `AttestationRequest` | none yet: it is refused with `attestation.none` | none |
| `close` | `CloseRequest` | one `Stopped` | none |
| `revoke` | `RevokeRequest` | one `Revoked` | none |

Tags 130-149 and 230-239; each is one canonical message. Those of `exec` are in channel_exec.py. Who may call what
by a token of the tenant's is in capabilities.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar

from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.scalars import BlindingSalt, Hash, LeaseId, Millis

PUT_MANIFEST = "put_manifest"
STATUS = "status"
LOGS = "logs"
EVENTS = "events"
USAGE = "usage"
FORWARD = "forward"
GET_MANIFEST = "get_manifest"
ATTESTATION = "attestation"
CLOSE = "close"
REVOKE = "revoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """What is inside the sealed box: the manifest of the lease's one group, and what blinds its commitment."""

    TAG: ClassVar[int] = 130
    salt: BlindingSalt = field(repr=False)
    manifest: bytes = field(repr=False)
    """Canonical JSON (`manifest.group_to_json`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutManifest:
    """Hands a workload over. Calling it again for a lease that runs only tells how it is."""

    TAG: ClassVar[int] = 131
    sealed: bytes
    """An encoded `HandOff`, sealed to the provider's key: no relay and no disk on the way sees it."""
    receipt: SignedReceipt


class Step(enum.StrEnum):
    """How far a hand-off has come; `Progress.step` is one of these."""

    ACCEPTED = "accepted"
    IMAGE = "image"
    STARTING = "starting"
    PROBING = "probing"
    ACTIVATING = "activating"
    RUNNING = "running"
    """The last one: probed, and the activation is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    TAG: ClassVar[int] = 132
    step: str
    """A `Step`; text, so that older tenants read the steps of newer providers."""
    detail: str
    """For people: which service, which image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRequest:
    TAG: ClassVar[int] = 133


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One replica of one service."""

    TAG: ClassVar[int] = 134
    service: str
    replica: int
    state: str
    """`starting`, `running`, `exited`, `lost`."""
    exit_code: int | None
    started_at: Millis | None
    restarts: int
    """How often it has ended and was started again."""
    last_end: str
    """How it ended the last time: `exit code 137, out of memory`; empty if it never did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    TAG: ClassVar[int] = 135
    lease: LeaseId
    phase: str
    """`waiting` for the hand-off, `deploying`, `activating`, `running`, `closing`, `closed`."""
    detail: str
    services: tuple[ServiceStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsRequest:
    TAG: ClassVar[int] = 136
    service: str
    """Empty for all of them."""
    tail: int | None
    """The last so many lines of each replica; None for all that is kept."""
    follow: bool
    """Go on as lines come, until the workload ends."""
    previous: bool
    """What it said before it was started again last, instead; nothing can follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogItem:
    """One line of output."""

    TAG: ClassVar[int] = 137
    service: str
    replica: int
    time: Millis
    """When the provider read it, by its own clock."""
    stream: str
    """`out` or `err`."""
    line: str
    partial: bool
    """The line goes on in the next item of the same stream: it was very long, or the workload ended within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardRequest:
    """Connects to 127.0.0.1:`port` as seen inside the service's first replica."""

    TAG: ClassVar[int] = 138
    service: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRequest:
    TAG: ClassVar[int] = 146
    service: str
    """Empty for all of them."""
    follow: bool
    """Again each second, until the lease ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one replica takes now."""

    TAG: ClassVar[int] = 147
    service: str
    replica: int
    time: Millis
    """When the provider looked, by its own clock."""
    cpu_ms: int
    """Processor time since its start, as far as it can be told: a difference of two is what was used between."""
    memory_bytes: int
    processes: int
    received_bytes: int
    """Over forwards, and over interfaces of its own where it has any besides loopback."""
    sent_bytes: int


class Happening(enum.StrEnum):
    """What may happen to a lease at its provider; `LeaseEvent.kind` is one of these."""

    HANDED_OVER = "handed_over"
    UPDATED = "updated"
    ADOPTED = "adopted"
    """The provider was started again, and goes on with what it was handed before."""
    IMAGE = "image"
    STARTED = "started"
    PROBING = "probing"
    ACTIVATING = "activating"
    RUNNING = "running"
    """Probed, and active on the ledger."""
    FAILED = "failed"
    EXITED = "exited"
    LOST = "lost"
    """It is gone, and left no exit code."""
    ROLLED_BACK = "rolled_back"
    """An update did not come up, and the version before it runs again."""
    REVOKED = "revoked"
    """Capability tokens are good for nothing any more."""
    AWAY = "away"
    """The provider does not reach what runs its workloads; they may run as before."""
    PAUSED = "paused"
    """It is started again after a while."""
    HELD = "held"
    """The escrow is dry: all that runs is held still."""
    RESUMED = "resumed"
    """It was topped up, and all goes on where it was."""
    STOPPED = "stopped"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsRequest:
    TAG: ClassVar[int] = 148
    after: int
    """Only those with a higher number; 0 for all that are kept."""
    follow: bool
    """Go on as things happen, until the lease ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseEvent:
    """Something that its provider did with a lease, or saw of it."""

    TAG: ClassVar[int] = 149
    number: int
    """From 1, without gaps but for the oldest that were dropped."""
    time: Millis
    """By the provider's own clock."""
    kind: str
    """A `Happening`; text, so that older tenants read those of newer providers."""
    service: str
    """Empty where it is about the whole lease."""
    replica: int
    code: int | None
    """Of an exit, where one is known."""
    detail: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One capability token that is good for nothing any more."""

    token: Hash
    """`capabilities.capability_id`."""
    expires_at: Millis
    """When it would have expired: nobody needs to remember it after that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeRequest:
    TAG: ClassVar[int] = 230
    tokens: tuple[Revocation, ...]
    before: Millis
    """All that were issued before this moment; 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """On the provider's disk."""

    TAG: ClassVar[int] = 231
    calls_ended: int
    """Open ones, cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetManifest:
    TAG: ClassVar[int] = 232


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What the provider serves; in pieces, for it may be longer than a frame."""

    TAG: ClassVar[int] = 233
    salt: BlindingSalt = field(repr=False)
    manifest: bytes = field(repr=False)
    """Canonical JSON, as in `HandOff`."""
    receipt: SignedReceipt
    """The tenant's own, by which the version and the commitment are known to be no invention of the provider's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationRequest:
    TAG: ClassVar[int] = 234
    nonce: Hash
    """Random, so that nothing said before can be said again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """Stops everything now. The lease goes on until the ledger closes it: that is its tenant's to say there."""

    TAG: ClassVar[int] = 235
    grace_ms: Millis
    """How long programs that were asked to end have, before they are made to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    TAG: ClassVar[int] = 236
    services: tuple[ServiceStatus, ...]
    """How each replica ended."""
