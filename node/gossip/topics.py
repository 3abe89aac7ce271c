"""What is gossiped about: the topics, how they weigh, and the batches that items travel in."""

from __future__ import annotations

import enum

from fondaco.protocol import codec, limits
from fondaco.protocol.errors import Malformed
from fondaco.protocol.gossip import parameters
from fondaco.protocol.gossip.router import RouterConfig
from fondaco.protocol.scalars import ChainId

ITEM_OVERHEAD_BYTES = 5
"""What msgpack puts before each item, at most."""


class Topic(enum.StrEnum):
    ORDERS = "orders"
    BIDS = "bids"
    """Bids and declines."""
    TRANSACTIONS = "transactions"
    STATUS = "status"


RANKS = (Topic.TRANSACTIONS, Topic.ORDERS, Topic.BIDS, Topic.STATUS)
"""The heaviest first; only what routers say among themselves, at `CONTROL`, comes before."""
CONTROL, LIGHTEST = 0, len(RANKS) + 1


def rank_of(topic: str) -> int:
    """Of topics that are not ours all are the lightest."""
    return RANKS.index(Topic(topic)) + 1 if topic in list(RANKS) else LIGHTEST


def topic_name(chain: ChainId, topic: str) -> str:
    """What a topic is called on the wire: chains never mix."""
    return f"/fondaco/{chain}/{topic}"


SCORES = {
    Topic.ORDERS: parameters.ORDERS,
    Topic.BIDS: parameters.BIDS,
    Topic.TRANSACTIONS: parameters.TRANSACTIONS,
    Topic.STATUS: parameters.STATUS,
}


def router_config(chain: ChainId) -> RouterConfig:
    """The router's, with what is scored in our topics; no other topic counts."""
    topics = {topic_name(chain, topic): terms for topic, terms in SCORES.items()}
    return RouterConfig(score=parameters.ScoreConfig(topics=topics, other_topics=None))


def item_key(item: bytes) -> int:
    """What an item is remembered by: a hash keyed by this process, of 60 bits, where a number is smallest."""
    return hash(item) & ((1 << 60) - 1)


def decode_batch(data: bytes) -> list[bytes]:
    """The items of a batch. Raises `Malformed` `gossip.batch`."""
    items = codec.unpack(data, limit=limits.GOSSIP_RPC_BYTES)
    if type(items) is not list or not 0 < len(items) <= limits.GOSSIP_BATCH_ITEMS:
        raise Malformed("gossip.batch", f"a batch is a list of 1 to {limits.GOSSIP_BATCH_ITEMS} items")
    for item in items:
        if type(item) is not bytes or not 0 < len(item) <= limits.GOSSIP_ITEM_BYTES:
            raise Malformed("gossip.batch", f"an item is 1 to {limits.GOSSIP_ITEM_BYTES} bytes")
    return items
