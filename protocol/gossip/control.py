"""Gossipsub's control messages, and their protobuf.

    ControlMessage  1 ihave*    2 iwant*    3 graft*    4 prune*
    ControlIHave    1 topicID   2 messageIDs*
    ControlIWant    1 messageIDs*
    ControlGraft    1 topicID
    ControlPrune    1 topicID   2 peers*    3 backoff (uint64, seconds)
    PeerInfo        1 peerID    2 signedPeerRecord
    https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md

IDONTWANT (5, of version 1.2) is skipped like every field that is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from fondaco.protocol import limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip.protobuf import VARINT, blob, field, fields, number, required, topic_of, varint

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """Another peer of a topic, as a PRUNE names it."""

    identity: bytes
    """The binary peer id."""
    record: bytes = b""
    """Its signed record; empty where there is none, which the specification allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IHave:
    """Messages of a topic that the sender has."""

    topic: str
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """The receiver is no longer in the sender's mesh."""

    topic: str
    backoff_s: int = 0
    """Seconds in which neither side may graft the other; 0 leaves it to the receiver."""
    peers: tuple[PeerInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control part of one RPC; false where it says nothing."""

    ihave: tuple[IHave, ...] = ()
    iwant: tuple[bytes, ...] = ()
    """Ids of messages to be sent."""
    graft: tuple[str, ...] = ()
    """Topics in whose mesh the sender takes the receiver."""
    prune: tuple[Prune, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ihave or self.iwant or self.graft or self.prune)


def encode(control: Control) -> bytes:
    parts = []
    for have in control.ihave:
        parts.append(field(1, field(1, have.topic.encode()) + b"".join(field(2, one) for one in have.ids)))
    if control.iwant:
        parts.append(field(2, b"".join(field(1, one) for one in control.iwant)))
    for topic in control.graft:
        parts.append(field(3, field(1, topic.encode())))
    for prune in control.prune:
        parts.append(field(4, _encode_prune(prune)))
    return b"".join(parts)


def _encode_prune(prune: Prune) -> bytes:
    parts = [field(1, prune.topic.encode())]
    for info in prune.peers:
        record = field(2, info.record) if info.record else b""
        parts.append(field(2, field(1, info.identity) + record))
    if prune.backoff_s:
        parts.append(varint(3 << 3 | VARINT) + varint(prune.backoff_s))
    return b"".join(parts)


def decode(data: bytes) -> Control:
    """Raises `Malformed` for bytes that are no control message or break a bound."""
    ihave: list[IHave] = []
    iwant: list[bytes] = []
    graft: list[str] = []
    prune: list[Prune] = []
    ids = 0
    for key, value in fields(data):
        if key == 1:
            have = _ihave(blob(value))
            ids += len(have.ids)
            _bounded(ihave).append(have)
        elif key == 2:
            wanted = [blob(inner) for part, inner in fields(blob(value)) if part == 1]
            ids += len(wanted)
            iwant += wanted
        elif key == 3:
            _bounded(graft).append(_topic_in(blob(value)))
        elif key == 4:
            _bounded(prune).append(_prune(blob(value)))
        if ids > limits.GOSSIP_IDS_PER_RPC:
            raise Malformed("gossip.count", "too many message ids in one RPC")
    return Control(ihave=tuple(ihave), iwant=tuple(iwant), graft=tuple(graft), prune=tuple(prune))


def _bounded(parts: list[T]) -> list[T]:
    if len(parts) >= limits.GOSSIP_SUBSCRIPTIONS:
        raise Malformed("gossip.count", "too many control messages in one RPC")
    return parts


def _ihave(data: bytes) -> IHave:
    topic, ids = "", []
    for key, value in fields(data):
        if key == 1:
            topic = topic_of(value)
        elif key == 2:
            ids.append(blob(value))
    return IHave(topic=required(topic), ids=tuple(ids))


def _topic_in(data: bytes) -> str:
    topic = ""
    for key, value in fields(data):
        if key == 1:
            topic = topic_of(value)
    return required(topic)


def _prune(data: bytes) -> Prune:
    topic, backoff_s = "", 0
    peers: list[PeerInfo] = []
    for key, value in fields(data):
        if key == 1:
            topic = topic_of(value)
        elif key == 2:
            _bounded(peers).append(_peer_info(blob(value)))
        elif key == 3:
            backoff_s = number(value)
    return Prune(topic=required(topic), backoff_s=backoff_s, peers=tuple(peers))


def _peer_info(data: bytes) -> PeerInfo:
    identity = record = b""
    for key, value in fields(data):
        if key == 1:
            identity = blob(value)
        elif key == 2:
            record = blob(value)
    return PeerInfo(identity=identity, record=record)
