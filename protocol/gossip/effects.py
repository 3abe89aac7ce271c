"""What a router says: the names it uses, and the effects its driver carries out."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import NewType

from fondaco.protocol.gossip.control import PeerInfo
from fondaco.protocol.gossip.wire import Rpc

Peer = NewType("Peer", str)
"""Whatever text the driver knows a neighbour by."""
MessageId = NewType("MessageId", bytes)

ID_BYTES = 20


def message_id(data: bytes) -> MessageId:
    """The id of a message: sha256 of its data, cut to twenty bytes."""
    return MessageId(hashlib.sha256(data).digest()[:ID_BYTES])


class Verdict(enum.Enum):
    """What the application thinks of a message."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRpc:
    """Effect: send `rpc` to each of `peers`; it is encoded once."""

    peers: tuple[Peer, ...]
    rpc: Rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Effect: judge this message and report with `Router.verdict`."""

    topic: str
    data: bytes
    message_id: MessageId
    source: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Punish:
    """Effect: `peer` broke a rule; the driver scores it down, beyond the router's own score."""

    peer: Peer
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggest:
    """Effect: `peer`, whose score is good enough, pruned us and names others that want `topic`. To be verified."""

    peer: Peer
    topic: str
    others: tuple[PeerInfo, ...]


Effect = SendRpc | Deliver | Punish | Suggest
