"""Neighbours whose score is so low that they are not heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from fondaco.protocol.gossip.counters import Counters
from fondaco.protocol.gossip.effects import Effect, Peer, Punish
from fondaco.protocol.gossip.parameters import RouterConfig
from fondaco.protocol.gossip.score import Scores
from fondaco.protocol.gossip.wire import Rpc


class Graylist:
    """Names whom it comes upon once, and again who goes on though nobody hears."""

    def __init__(self, config: RouterConfig, scores: Scores, counters: Counters) -> None:
        self._config = config
        self._scores = scores
        self._counters = counters
        self._named: set[Peer] = set()
        self._unheard: Counter[Peer] = Counter()
        """RPCs since the last heartbeat."""

    def forget(self, peer: Peer) -> None:
        self._named.discard(peer)

    def unread(self, peer: Peer, rpc: Rpc) -> list[Effect]:
        """Nothing of this is read; one that goes on all the same, and not for those beside it, is a flood."""
        self._counters.graylisted += 1
        if (rpc.messages or rpc.control) and self._scores.own(peer) < self._config.score.graylist_threshold:
            self._unheard[peer] += 1
            if self._unheard[peer] % self._config.unheard == 0:
                return [Punish(peer=peer, code="gossip.flood", message="it is not heard, and goes on")]
        return []

    def heartbeat(self, neighbours: Collection[Peer]) -> list[Effect]:
        """Whoever has sunk below the threshold since the last one is named to the driver, once."""
        self._unheard.clear()
        least = self._config.score.graylist_threshold
        listed = {peer for peer in neighbours if self._scores.of(peer) < least}
        fresh = [peer for peer in neighbours if peer in listed and peer not in self._named]
        self._named = listed
        return [Punish(peer=peer, code="gossip.graylisted", message="its score is too low") for peer in fresh]
