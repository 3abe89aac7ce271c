"""What a hand-off says of images: their names, and credentials for their registries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.providers import (
    FakeRuntime,
    Site,
    hand_off,
    make_lease,
    make_order,
    manifest_group,
    open_site,
    web,
)

from fondaco.protocol.errors import Refused
from fondaco.protocol.manifest import Credentials, Service
from fondaco.provider.gateway import Gateway
from fondaco.provider.images.registries import Login
from fondaco.provider.workloads import specs_of


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


def private(host: str) -> Service:
    credentials = Credentials(host=host, email="", username="me", password="hidden")
    return replace(web(), credentials=credentials)


async def test_the_credentials_of_a_service_reach_the_runtime_and_no_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    group = manifest_group(private("https://Registry.Example:5000/v2/"))
    lease = make_lease(make_order(group), group)
    site.chain.put(lease)
    async with site.running() as agent:
        async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease, group)):
            pass
    assert isinstance(site.runtime, FakeRuntime)
    login = Login(host="registry.example:5000", username="me", password="hidden")
    assert site.runtime.logins == [login]
    assert {spec.login for spec in site.runtime.specs.values()} == {login}
    assert "hidden" not in caplog.text
    assert "hidden" not in repr(specs_of(lease.id, group))


@pytest.mark.parametrize("service", [web(image="Not An Image"), private("no host")])
async def test_names_that_mean_nothing_are_refused_when_they_are_handed_over(site: Site, service: Service) -> None:
    group = manifest_group(service)
    lease = make_lease(make_order(group), group)
    site.chain.put(lease)
    async with site.running() as agent:
        with pytest.raises(Refused) as refusal:
            async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease, group)):
                pass
    assert refusal.value.code == "image.reference"
    assert "hidden" not in str(refusal.value)
