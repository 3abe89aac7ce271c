"""A router by itself, the messages that neighbours send it, and what it does about them."""

from dataclasses import replace
from typing import Any

from fondaco.protocol.gossip.control import Control, IHave, Prune
from fondaco.protocol.gossip.parameters import RouterConfig
from fondaco.protocol.gossip.router import Effect, Peer, Router, SendRpc, message_id
from fondaco.protocol.gossip.wire import Message, Rpc, Subscription
from fondaco.protocol.scalars import Millis

SMALL = RouterConfig(degree=3, degree_low=2, degree_high=4, degree_score=2, degree_out=1, degree_lazy=2)
HELLO = Message(topic="t", data=b"hello")
ID = message_id(b"hello")


def name(number: int) -> Peer:
    return Peer(f"p{number}")


def wants(*topics: str, subscribe: bool = True) -> Rpc:
    return Rpc(subscriptions=tuple(Subscription(topic=topic, subscribe=subscribe) for topic in topics))


def graft(topic: str = "t") -> Rpc:
    return Rpc(control=Control(graft=(topic,)))


def prune(topic: str = "t", **fields: Any) -> Rpc:
    return Rpc(control=Control(prune=(Prune(topic=topic, **fields),)))


def offers(*ids: bytes, topic: str = "t") -> Rpc:
    return Rpc(control=Control(ihave=(IHave(topic=topic, ids=ids),)))


def asks(*ids: bytes) -> Rpc:
    return Rpc(control=Control(iwant=ids))


def says(data: bytes = b"hello") -> Rpc:
    return Rpc(messages=(Message(topic="t", data=data),))


def router(count: int, *, joined: bool = True, outbound: int = 0, **changes: Any) -> Router:
    """One with so many neighbours that want "t", the first of which it dialled."""
    made = Router(replace(SMALL, **changes), now=Millis(0), seed=1)
    if joined:
        made.subscribe("t")
    for number in range(count):
        made.peer_added(name(number), outbound=number < outbound, identity=b"%d" % number)
        made.received(name(number), wants("t"))
    return made


def members(made: Router) -> set[Peer]:
    """Of the mesh of "t"."""
    return set(made.mesh.topics["t"])


def controls(effects: list[Effect]) -> dict[Peer, Control]:
    """What each neighbour is told about meshes and gossip."""
    return {peer: e.rpc.control for e in effects if isinstance(e, SendRpc) and e.rpc.control for peer in e.peers}


def beat(made: Router, seconds: int = 1) -> list[Effect]:
    """A heartbeat, so long after the last event."""
    return made.heartbeat(Millis(made._now + 1_000 * seconds))
