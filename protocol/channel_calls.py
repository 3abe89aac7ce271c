"""What can be called on a lease's channel: method names, their parameters and the items they give back.

| method | parameters | data from the provider | data from the tenant |
|---|---|---|---|
| `put_manifest` | `PutManifest` | `Progress`, one a frame, until it runs or is refused | none |
| `status` | `StatusRequest` | one `Status` | none |
| `logs` | `LogsRequest` | `LogItem`, one a frame | none |
| `forward` | `ForwardRequest` | what the workload sends, as it comes | what it is to receive |

Tags 130-149; each is one canonical message.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.scalars import BlindingSalt, LeaseId, Millis

PUT_MANIFEST = "put_manifest"
STATUS = "status"
LOGS = "logs"
FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """What is inside the sealed box: the manifest of the lease's one group, and what blinds its commitment."""

    TAG: ClassVar[int] = 130
    salt: BlindingSalt
    manifest: bytes
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
