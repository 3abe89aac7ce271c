"""Who is in the mesh of each topic: joining, leaving, GRAFT, PRUNE, and what a heartbeat mends.

The mesh of a topic is the few neighbours that every message of it goes to at once; it is meant to be mutual. Where
no more than `degree_high` neighbours want a topic the mesh is all of them: a small network floods, as it can
afford to, and a message takes one step. A neighbour that begins to want a topic is grafted at once while there is
room, so that nobody waits for a heartbeat.

Topics that we publish in without wanting them have a fan-out instead, used where publishing does not flood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fondaco.protocol.gossip.backoff import Backoffs
from fondaco.protocol.gossip.chance import Chance
from fondaco.protocol.gossip.control import PeerInfo, Prune
from fondaco.protocol.gossip.counters import Counters
from fondaco.protocol.gossip.effects import Peer
from fondaco.protocol.gossip.parameters import RouterConfig
from fondaco.protocol.gossip.score import Scores
from fondaco.protocol.scalars import Millis


@dataclass(slots=True)
class Neighbour:
    """What is known of one."""

    outbound: bool = False
    """We dialled it."""
    identity: bytes = b""
    """Its binary peer id, to name it to others; empty where the driver gave none."""
    record: bytes = b""
    """Its signed record, for those to whom it is named; empty while the driver has none."""
    wanted: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Changes:
    """What one heartbeat changed in one mesh."""

    grafts: list[Peer] = field(default_factory=list)
    prunes: list[tuple[Peer, Prune]] = field(default_factory=list)


class Mesh:
    """All meshes and fan-outs of one router."""

    def __init__(
        self,
        config: RouterConfig,
        neighbours: dict[Peer, Neighbour],
        scores: Scores,
        chance: Chance,
        counters: Counters,
    ) -> None:
        self.config = config
        self.topics: dict[str, dict[Peer, None]] = {}
        self.fanout: dict[str, dict[Peer, None]] = {}
        self.backoffs = Backoffs(
            config.backoffs, longest_ms=config.longest_backoff_ms, slack_ms=2 * config.heartbeat_ms
        )
        self._published_at: dict[str, Millis] = {}
        self._neighbours = neighbours
        self._scores = scores
        self._chance = chance
        self._counters = counters
        self._beats = 0

    def wanting(self, topic: str) -> list[Peer]:
        """Neighbours that want `topic`."""
        return [peer for peer, neighbour in self._neighbours.items() if topic in neighbour.wanted]

    def candidates(self, topic: str, now: Millis) -> list[Peer]:
        """Whom we may graft: not there yet, no back-off, no bad score."""
        members = self.topics[topic]
        return [peer for peer in self.wanting(topic) if peer not in members and self._eligible(topic, peer, now)]

    def _eligible(self, topic: str, peer: Peer, now: Millis) -> bool:
        return not self.backoffs.held(topic, peer, now) and self._scores.of(peer) >= 0

    def _goal(self, topic: str, least: int) -> tuple[int, int]:
        """How many there should be at least, and how many to have when there are fewer."""
        everybody = len(self.wanting(topic))
        return (everybody, everybody) if everybody <= self.config.degree_high else (least, self.config.degree)

    # Ourselves

    def join(self, topic: str, now: Millis) -> list[Peer]:
        """We want `topic`; whom to graft: the fan-out first, for they know us."""
        self.topics[topic] = {}
        before = self.fanout.pop(topic, {})
        self._published_at.pop(topic, None)
        kept = [peer for peer in before if self._eligible(topic, peer, now)]
        _, goal = self._goal(topic, self.config.degree)
        for peer in kept:
            self._graft(topic, peer, now)
        more = self._chance.sample(self.candidates(topic, now), goal - len(kept))
        for peer in more:
            self._graft(topic, peer, now)
        self._counters.grafts_sent += len(kept) + len(more)
        return kept + more

    def leave(self, topic: str, now: Millis) -> list[Peer]:
        """We no longer want `topic`; who is to be told."""
        members = list(self.topics[topic])
        for peer in members:
            self._prune(topic, peer, now, self.config.unsubscribe_backoff_ms)
        del self.topics[topic]
        self._counters.prunes_sent += len(members)
        return members

    def publish_to(self, topic: str, now: Millis) -> list[Peer]:
        """Who gets what we publish, where publishing does not flood: the mesh, or a fan-out that is remembered."""
        if topic in self.topics:
            return list(self.topics[topic])
        self._published_at[topic] = now
        if not self.fanout.get(topic):
            self.fanout[topic] = dict.fromkeys(self._chance.sample(self._publishable(topic), self.config.degree))
        return list(self.fanout[topic])

    def _publishable(self, topic: str) -> list[Peer]:
        least = self.config.score.publish_threshold
        return [peer for peer in self.wanting(topic) if self._scores.of(peer) >= least]

    # Neighbours

    def greet(self, topic: str, peer: Peer, now: Millis) -> bool:
        """`peer` begins to want `topic`: whether it is grafted at once."""
        members = self.topics.get(topic)
        if members is None or peer in members or not self._eligible(topic, peer, now):
            return False
        if len(members) >= self._goal(topic, self.config.degree)[0]:
            return False
        self._graft(topic, peer, now)
        self._counters.grafts_sent += 1
        return True

    def lost(self, topic: str, peer: Peer) -> None:
        """`peer` no longer wants `topic`, or is gone."""
        self.fanout.get(topic, {}).pop(peer, None)
        if peer in self.topics.get(topic, {}):
            del self.topics[topic][peer]
            self._scores.pruned(peer, topic)

    def graft_asked(self, topic: str, peer: Peer, now: Millis) -> Prune | None:
        """`peer` takes us into its mesh, and we take it into ours, or refuse by a PRUNE.

        Unknown topics, and topics that it does not want itself, get no answer: answers would be free to cause.
        """
        config, counters, members = self.config, self._counters, self.topics.get(topic)
        counters.grafts_received += 1
        if members is None or topic not in self._neighbours[peer].wanted or peer in members:
            return None
        left = self.backoffs.left_ms(topic, peer, now)
        bad = self._scores.of(peer) < 0
        if left:
            counters.grafts_too_soon += 1
            flood = left > config.prune_backoff_ms - config.graft_flood_ms
            self._scores.misdeed(peer, 2 if flood else 1)
        elif not bad and (len(members) < config.degree_high or self._neighbours[peer].outbound):
            self._graft(topic, peer, now)
            return None
        counters.grafts_refused += 1
        counters.prunes_sent += 1
        self.backoffs.add(topic, peer, now, config.prune_backoff_ms)
        return self._prune_message(topic, peer, suggest=not (left or bad))

    def prune_told(self, prune: Prune, peer: Peer, now: Millis) -> bool:
        """`peer` drops us from its mesh; whether what it suggests is to be believed."""
        self._counters.prunes_received += 1
        if prune.topic not in self.topics:
            return False
        believed = self._scores.of(peer) >= self.config.score.accept_px_threshold
        self._prune(prune.topic, peer, now, prune.backoff_s * 1_000 or self.config.prune_backoff_ms)
        return believed

    def _graft(self, topic: str, peer: Peer, now: Millis) -> None:
        self.topics[topic][peer] = None
        self._scores.grafted(peer, topic, now)

    def _prune(self, topic: str, peer: Peer, now: Millis, backoff_ms: int) -> None:
        self.topics[topic].pop(peer, None)
        self._scores.pruned(peer, topic)
        self.backoffs.add(topic, peer, now, backoff_ms)

    def farewell(self, topic: str, peer: Peer) -> Prune:
        """What `peer` is told as we leave: to whom it may turn, and a shorter back-off than else."""
        return self._prune_message(topic, peer, suggest=self._scores.of(peer) >= 0, leaving=True)

    def _prune_message(self, topic: str, peer: Peer, *, suggest: bool, leaving: bool = False) -> Prune:
        """Names others of no bad score, where `peer` deserves to be helped on; rather those with a record."""
        others: list[Peer] = []
        if suggest:
            others = [one for one in self.wanting(topic) if one != peer and self._scores.of(one) >= 0]
        known = [self._neighbours[one] for one in others if self._neighbours[one].identity]
        useful = [one for one in known if one.record] or known
        chosen = self._chance.sample(useful, self.config.suggested_peers)
        infos = tuple(PeerInfo(identity=one.identity, record=one.record) for one in chosen)
        backoff_ms = self.config.unsubscribe_backoff_ms if leaving else self.config.prune_backoff_ms
        return Prune(topic=topic, backoff_s=backoff_ms // 1_000, peers=infos)

    # The heartbeat

    def heartbeat(self, now: Millis) -> dict[str, Changes]:
        """Mend every mesh and fan-out; what changed, by topic."""
        self._beats += 1
        self.backoffs.expire(now)
        self._keep_fanout(now)
        return {topic: self._mend(topic, now) for topic in self.topics}

    def _mend(self, topic: str, now: Millis) -> Changes:
        config, members, changes = self.config, self.topics[topic], Changes()
        score = self._scores.of
        for peer in [peer for peer in members if score(peer) < 0]:
            changes.prunes.append((peer, self._prune_message(topic, peer, suggest=False)))
            self._prune(topic, peer, now, config.prune_backoff_ms)
        least, goal = self._goal(topic, config.degree_low)
        if len(members) < least:
            self._graft_some(topic, goal - len(members), now, changes, lambda peer: True)
        if len(members) > config.degree_high:
            for peer in self._superfluous(members):
                changes.prunes.append((peer, self._prune_message(topic, peer, suggest=True)))
                self._prune(topic, peer, now, config.prune_backoff_ms)
        missing = config.degree_out - sum(self._neighbours[peer].outbound for peer in members)
        if len(members) >= config.degree_low and missing > 0:
            self._graft_some(topic, missing, now, changes, lambda peer: self._neighbours[peer].outbound)
        if self._beats % config.opportunistic_heartbeats == 0 and len(members) > 1:
            median = sorted(score(peer) for peer in members)[len(members) // 2]
            if median < config.score.opportunistic_threshold:
                before = len(changes.grafts)
                self._graft_some(
                    topic, config.opportunistic_peers, now, changes, lambda peer: score(peer) > median
                )
                self._counters.opportunistic_grafts += len(changes.grafts) - before
        self._counters.grafts_sent += len(changes.grafts)
        self._counters.prunes_sent += len(changes.prunes)
        return changes

    def _graft_some(
        self, topic: str, count: int, now: Millis, changes: Changes, fits: Callable[[Peer], bool]
    ) -> None:
        for peer in self._chance.sample(filter(fits, self.candidates(topic, now)), count):
            self._graft(topic, peer, now)
            changes.grafts.append(peer)

    def _superfluous(self, members: Iterable[Peer]) -> list[Peer]:
        """Who goes when there are too many: all but the best, some by lot, and enough that we dialled."""
        config = self.config
        ranked = sorted(self._chance.shuffled(members), key=self._scores.of, reverse=True)
        best, rest = ranked[: config.degree_score], self._chance.shuffled(ranked[config.degree_score :])
        lot = config.degree - len(best)
        kept, spare = best + rest[:lot], rest[lot:]
        missing = config.degree_out - sum(self._neighbours[peer].outbound for peer in kept)
        for peer in [peer for peer in spare if self._neighbours[peer].outbound][: max(0, missing)]:
            # From the back: those kept by lot make room first, then the lower scores.
            given_up = next(one for one in reversed(kept) if not self._neighbours[one].outbound)
            kept.remove(given_up)
            kept.append(peer)
            spare.remove(peer)
            spare.append(given_up)
        return spare

    def _keep_fanout(self, now: Millis) -> None:
        for topic in [one for one, at in self._published_at.items() if now - at > self.config.fanout_ms]:
            del self._published_at[topic]
            self.fanout.pop(topic, None)
        for topic in self.fanout:
            able = self._publishable(topic)
            kept = [peer for peer in self.fanout[topic] if peer in able]
            fresh = [peer for peer in able if peer not in kept]
            kept += self._chance.sample(fresh, self.config.degree - len(kept))
            self.fanout[topic] = dict.fromkeys(kept)
