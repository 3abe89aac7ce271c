"""What metrics are made of: durations by class, refusals by code, and the node's pulse."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fondaco.node.pulse import BEAT_S, MARKS, Pulse
from fondaco.node.refusals import Refusals, counting
from fondaco.node.timings import Timings
from fondaco.protocol.errors import PeerFault, Refused, Unreachable


def test_a_duration_counts_in_the_first_class_that_holds_it() -> None:
    timings = Timings((0.1, 1.0))
    for took in (0.05, 0.1, 0.5, 7.0, -3.0):
        timings.note(took)
    assert timings.counts == [3, 1, 1]
    assert timings.count == 5
    assert timings.sum_s == pytest.approx(7.65)


def test_refusals_are_counted_by_code_and_go_on() -> None:
    refusals = Refusals()
    for error in (Refused("a.b", ""), PeerFault("c.d", ""), Refused("a.b", ""), Unreachable("e.f", "")):
        with pytest.raises(type(error)), counting(refusals):
            raise error
    assert refusals == {"a.b": 2, "c.d": 1}


def test_rates_are_those_between_the_oldest_and_the_newest_look() -> None:
    pulse = Pulse()
    assert pulse.per_minute("t") == {}
    pulse.mark(0.0, {"t": {"delivered": 5}})
    assert pulse.per_minute("t") == {}
    pulse.mark(30.0, {"t": {"delivered": 25}, "u": {"delivered": 1}})
    assert pulse.per_minute("t") == {"delivered": 40.0}
    assert pulse.per_minute("u") == {"delivered": 2.0}
    for number in range(MARKS):
        pulse.mark(100.0 + number, {"t": {"delivered": 25}})
    assert pulse.per_minute("t") == {"delivered": 0.0}


async def test_a_late_event_loop_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    pulse = Pulse()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.run, dict)
        await trio.sleep(10.5 * BEAT_S)
        assert pulse.lag.counts[0] == pulse.lag.count == 10
        autojump_clock.jump(3.0)  # nobody was woken meanwhile
        await trio.sleep(BEAT_S)
        nursery.cancel_scope.cancel()
    assert pulse.lag.counts[-1] == 1
