"""A provider with its gateway, and a lease of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.providers import (
    FakeRuntime,
    Site,
    inline_threads,
    make_lease,
    make_order,
    open_site,
)

from fondaco.protocol.errors import Refused
from fondaco.protocol.market import SignedReceipt
from fondaco.protocol.records import Lease
from fondaco.provider.agent import Agent
from fondaco.provider.gateway import Gateway


def machine(site: Site) -> FakeRuntime:
    assert isinstance(site.runtime, FakeRuntime)
    return site.runtime


@pytest.fixture
def jumping(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> object:
    inline_threads(monkeypatch)
    return autojump_clock  # pytest-trio takes the clock that a test asks for by value


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


async def put(site: Site, gateway: Gateway, lease: Lease, box: bytes, receipt: SignedReceipt) -> str:
    with pytest.raises(Refused) as error:
        async for _ in site.client(gateway, lease).put_manifest(box, receipt):
            pass
    return error.value.code
