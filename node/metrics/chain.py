"""Where the chain stands, and how agreement goes."""

from __future__ import annotations

from collections.abc import Iterator

from fondaco.node.app import Node
from fondaco.node.metrics.model import Reading, counter, gauge, histogram

HEIGHT = gauge("chain_height", "Height of the newest block here.")
HEAD_TIME = gauge("chain_head_timestamp_seconds", "Its time; the heartbeat says how old it may be.")
HEARTBEAT = gauge("chain_heartbeat_seconds", "A block comes at least so often, though it be empty.")
FETCHED = counter("sync_blocks_fetched", "Blocks taken from peers, not decided here.")
DECISIONS = counter("consensus_decisions", "Heights decided here.")
ROUNDS = counter("consensus_rounds", "Rounds that those took: one each where nobody failed.")
AT_HEIGHT = gauge("consensus_height", "The height under agreement.")
ROUND = gauge("consensus_round", "Its round, from 0: beyond it proposers have failed.")
FINALITY = histogram("consensus_finality", "From a proposer's beginning to the commit here.")
DROPPED = counter("consensus_dropped", "Messages that found the inbox full.")
VALIDATOR = gauge("validator", "1 where the node takes part in agreement.")
VALIDATORS = gauge("validators", "Validators of the next height.")
EVIDENCE = gauge("evidence_pending", "Pieces of evidence that wait for a block.")

METRICS = (
    *(HEIGHT, HEAD_TIME, HEARTBEAT, FETCHED, DECISIONS, ROUNDS, AT_HEIGHT, ROUND, FINALITY, DROPPED),
    *(VALIDATOR, VALIDATORS, EVIDENCE),
)


def read(node: Node) -> Iterator[Reading]:
    head, ledger, agreement = node.chain.head, node.chain.ledger, node.agreement
    yield HEIGHT.at(head.height)
    yield HEAD_TIME.at(head.time / 1_000)
    yield HEARTBEAT.at(ledger.params.heartbeat_ms / 1_000)
    yield FETCHED.at(node.sync.fetched)
    yield DECISIONS.at(agreement.finality.decided)
    yield ROUNDS.at(agreement.finality.rounds)
    yield AT_HEIGHT.at(agreement.engine.height or 0)
    driver = agreement.engine.driver
    yield ROUND.at(0 if driver is None else max(0, driver.state.round))
    yield FINALITY.at(agreement.finality.took)
    yield DROPPED.at(agreement.dropped)
    yield VALIDATOR.at(node.config.validator)
    yield VALIDATORS.at(len(ledger.validators.members))
    yield EVIDENCE.at(len(node.evidence))
