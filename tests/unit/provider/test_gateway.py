"""Gateway and tenant client against each other, over real in-memory streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.support.providers import (
    Site,
    hand_off,
    make_lease,
    make_order,
    open_site,
)

from fondaco.protocol.channel_calls import Step
from fondaco.protocol.records import Lease, LeaseState
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


@pytest.fixture
async def agent(site: Site) -> AsyncIterator[Agent]:
    async with site.running() as agent:
        yield agent


@pytest.fixture
def gateway(agent: Agent) -> Gateway:
    return Gateway(agent)


@pytest.fixture
def lease(site: Site) -> Lease:
    lease = make_lease(make_order())
    site.chain.put(lease)
    return lease


async def test_a_hand_off_runs_and_is_activated_and_every_step_is_told(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    steps = [progress.step async for progress in client.put_manifest(*hand_off(lease))]
    assert steps == [*Step]
    assert site.chain.leases[lease.id].state is LeaseState.ACTIVE
    status = await client.status()
    assert status.phase == "running"
    assert [(one.service, one.state, one.restarts) for one in status.services] == [("web", "running", 0)]


async def test_http_goes_through_the_channel(site: Site, gateway: Gateway, lease: Lease) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    answer = await client.http_get("web", 80, "/path")
    assert answer.status == 200
    assert answer.headers["x-served-by"] == "web"
    assert answer.body == b"you asked for /path"


async def test_a_forward_carries_megabytes_both_ways_and_respects_half_close(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    stream = await client.forward("web", 7)
    sent = bytes(range(256)) * 16_384
    received = bytearray()

    async def send() -> None:
        await stream.send_all(sent)
        await stream.send_eof()

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for data in stream:
            received += data
    assert bytes(received) == sent + b"bye"


async def test_logs_are_told_and_followed_until_the_workload_ends(
    site: Site, gateway: Gateway, lease: Lease
) -> None:
    client = site.client(gateway, lease)
    async for _ in client.put_manifest(*hand_off(lease)):
        pass
    assert [item.line async for item in client.logs()] == ["started"]
    assert [item.line async for item in client.logs("web", tail=1)] == ["started"]
    async with client.logs(follow=True) as lines:
        async for item in lines:
            assert (item.service, item.stream, item.line) == ("web", "out", "started")
            break
