"""How long the engine waits, and what it takes for timely. Milliseconds throughout."""

from __future__ import annotations

from dataclasses import dataclass

from fondaco.consensus.rounds import Step
from fondaco.protocol.scalars import Millis, Round

GROWTH_ROUNDS_MAX = 100
"""Beyond this round the message delay stays what it is: 13,000 times the first, which is nobody's network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The defaults suit validators on a public network; tests and local networks shorten some."""

    propose_ms: int = 1_000
    propose_step_ms: int = 500
    """Added in each further round."""
    prevote_ms: int = 500
    prevote_step_ms: int = 250
    precommit_ms: int = 500
    precommit_step_ms: int = 250
    precision_ms: int = 505
    """How far apart the clocks of correct validators may be (PBTS, PRECISION)."""
    message_delay_ms: int = 15_000
    """How long a proposal may travel in round 0 (PBTS, MSGDELAY)."""
    min_block_interval_ms: int = 0
    """Round 0 of a height does not begin earlier after the block below was decided."""
    rebroadcast_ms: int = 1_000

    def timeout(self, step: Step, round: Round) -> Millis:
        """How long to wait in `step` of `round`."""
        first, growth = {
            Step.PROPOSE: (self.propose_ms, self.propose_step_ms),
            Step.PREVOTE: (self.prevote_ms, self.prevote_step_ms),
            Step.PRECOMMIT: (self.precommit_ms, self.precommit_step_ms),
        }[step]
        return Millis(first + growth * round)

    def message_delay(self, round: Round) -> int:
        """MSGDELAY, a tenth more each round, in integers: a wrong guess ends no chain."""
        delay = self.message_delay_ms
        for _ in range(min(round, GROWTH_ROUNDS_MAX)):
            delay += delay // 10
        return delay

    def timely(self, *, time: Millis, received: Millis, round: Round) -> bool:
        """PBTS: whether a proposal stamped `time` may have been sent then and arrived at `received`."""
        earliest = received - self.message_delay(round) - self.precision_ms
        return earliest <= time <= received + self.precision_ms
