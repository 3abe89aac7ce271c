from __future__ import annotations

import pytest

from fondaco.consensus.config import EngineConfig
from fondaco.consensus.rounds import Step
from fondaco.protocol.scalars import Millis, Round

CONFIG = EngineConfig()


def test_timeouts_grow_with_the_round() -> None:
    assert [CONFIG.timeout(Step.PROPOSE, Round(round)) for round in (0, 1, 4)] == [1_000, 1_500, 3_000]
    assert [CONFIG.timeout(Step.PREVOTE, Round(round)) for round in (0, 2)] == [500, 1_000]
    assert [CONFIG.timeout(Step.PRECOMMIT, Round(round)) for round in (0, 2)] == [500, 1_000]


def test_the_message_delay_grows_by_a_tenth_in_integers() -> None:
    assert [CONFIG.message_delay(Round(round)) for round in range(4)] == [15_000, 16_500, 18_150, 19_965]
    assert CONFIG.message_delay(Round(10**6)) == CONFIG.message_delay(Round(100))


@pytest.mark.parametrize(
    ("late_ms", "round", "timely"),
    [(0, 0, True), (15_505, 0, True), (15_506, 0, False), (15_506, 1, True), (-505, 0, True), (-506, 0, False)],
)
def test_timeliness_allows_for_travel_and_for_the_clocks(late_ms: int, round: int, timely: bool) -> None:
    sent = 10**12
    assert CONFIG.timely(time=Millis(sent), received=Millis(sent + late_ms), round=Round(round)) is timely
