"""Gossip as the rest of the node sees it: `service` has the whole of it, the other modules its parts."""

from fondaco.node.gossip.service import PROTOCOL, Gossip, ItemsHandler, TopicState
from fondaco.node.gossip.topics import Topic, decode_batch, router_config, topic_name

__all__ = [
    "PROTOCOL",
    "Gossip",
    "ItemsHandler",
    "Topic",
    "TopicState",
    "decode_batch",
    "router_config",
    "topic_name",
]
