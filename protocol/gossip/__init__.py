"""Gossip: a gossipsub router that decides who gets what, and the wire that turns it into bytes. Sans-IO."""
