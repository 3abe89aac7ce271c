"""Gossip: the router decides who gets what, the wire turns it into gossipsub's bytes. Sans-IO."""
