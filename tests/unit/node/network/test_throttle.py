"""A stream's pace: a burst at once, and after it so many a second."""

import trio
import trio.testing

from fondaco.node.network.throttle import Throttle


async def test_a_burst_is_taken_at_once_and_the_rest_in_time(autojump_clock: trio.testing.MockClock) -> None:
    throttle, began = Throttle(burst=10, per_s=5), trio.current_time()
    for _ in range(10):
        await throttle.turn()
    assert trio.current_time() == began
    for _ in range(20):
        await throttle.turn()
    assert abs(trio.current_time() - began - 4) < 0.01
    await trio.sleep(100)
    began = trio.current_time()
    for _ in range(10):
        await throttle.turn()
    assert trio.current_time() == began
