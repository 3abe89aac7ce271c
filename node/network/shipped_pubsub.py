"""py-libp2p's own GossipSub on its own host: what our router is held against, in a benchmark and nowhere else.

As the library ships them, but for four settings without which it would not be a fair rival: a heartbeat of a
second (not of two minutes), no limit of ten messages a second and peer, no signatures of its own over items that
are signed inside, and messages known by a hash of their data, as ours are. No node opens one: a Pubsub that is
constructed and not running blocks every connect.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from fondaco.node.network.hardening import quiet_logs

DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 5, 12
"""As our own router has them."""
Judge = Callable[[bytes], bool]
"""Whether a message that came is good; asked once for each."""


class ShippedPubsub:
    """One node's part in one topic; `open_shipped_pubsub` makes one."""

    def __init__(self, host: Any, pubsub: Pubsub, router: GossipSub, topic: str) -> None:
        self._host = host
        self._pubsub = pubsub
        self._router = router
        self._topic = topic

    def address(self) -> str:
        """Where others dial it."""
        return str(self._host.get_addrs()[0])

    async def connect(self, address: str) -> None:
        await self._host.connect(info_from_p2p_addr(Multiaddr(address)))

    def neighbours(self) -> int:
        """How many want the topic; none before the first of them is in its mesh."""
        return len(self._pubsub.peer_topics.get(self._topic, ())) if self._router.mesh.get(self._topic) else 0

    async def publish(self, data: bytes) -> None:
        await self._pubsub.publish(self._topic, data)


def _identity(message: Any) -> bytes:
    return hashlib.sha256(message.data).digest()[:20]


@asynccontextmanager
async def open_shipped_pubsub(topic: str, judge: Judge) -> AsyncIterator[ShippedPubsub]:
    """Run one until the block ends, listening on a free port of loopback."""
    quiet_logs()
    keys = create_new_key_pair(secrets.token_bytes(32))
    host = new_host(
        key_pair=keys,
        sec_opt={TProtocol(NOISE): Noise(keys, noise_privkey=create_noise_key().private_key)},
        muxer_opt={TProtocol(YAMUX): Yamux},
    )
    router = GossipSub(
        [PROTOCOL_ID_V11],
        degree=DEGREE,
        degree_low=DEGREE_LOW,
        degree_high=DEGREE_HIGH,
        heartbeat_interval=1,
        spam_protection_enabled=False,
    )
    pubsub = Pubsub(host, router, strict_signing=False, msg_id_constructor=_identity)

    def good(_forwarder: Any, message: Any) -> bool:
        return message.from_id == host.get_id().to_bytes() or judge(message.data)

    async with (
        host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]),
        background_trio_service(pubsub),
        background_trio_service(router),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        pubsub.set_topic_validator(topic, good, False)
        nursery.start_soon(_drain, await pubsub.subscribe(topic))
        yield ShippedPubsub(host, pubsub, router, topic)
        nursery.cancel_scope.cancel()


async def _drain(subscription: Any) -> None:
    """Take what is delivered, or a full queue would be told of in the log."""
    while True:
        await subscription.get()
