"""An agent with leases, step by step."""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing
from tests.support.providers import (
    FakeRuntime,
    Site,
    hand_off,
)

from fondaco.protocol.records import Lease
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway


async def until(site: Site, condition: Callable[[], bool]) -> None:
    """Let everybody run until `condition` holds; blocks are made by the tests, so no time passes."""
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.001)


async def run_lease(site: Site, agent: Agent, lease: Lease) -> None:
    """Have `lease` handed over and running."""
    site.chain.put(lease)
    async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease)):
        pass


def machine(site: Site) -> FakeRuntime:
    assert isinstance(site.runtime, FakeRuntime)
    return site.runtime
