"""An SDL file whose image lies in a registry that wants a password: ordered, leased, pulled, run and paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.test_main_job import HELLO, answer, emptied
from tests.support.made_images import image_in
from tests.support.networks import network
from tests.support.registries import PASSWORD, USER, docker_registry

from fondaco.node import image, testnet
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.progress import Progress
from fondaco.protocol.errors import Refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_a_private_image_is_pulled_from_its_registry_and_runs(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "layout")
    with docker_registry(tmp_path / "registry", htpasswd=True) as registry:
        reference = registry.push(image_in(tmp_path / "layout"), "team/hello", "1")
        testnet.create(tmp_path / "net", validators=1, providers=1)
        allow(tmp_path / "net" / "nodes" / "provider-0" / "node.toml", registry.host)
        async with network(tmp_path / "net") as _, Tenant.connect(tmp_path / "net") as tenant:
            with pytest.raises(Refused) as refusal:
                await tenant.accept(await tenant.plan(sdl(reference, "somebody else")), name="wrong")
            assert refusal.value.code == "image.credentials"
            told: list[Progress] = []
            plan = await tenant.plan(sdl(reference, PASSWORD))
            deployment = await tenant.accept(plan, name="hello", report=told.append)
            steps = [progress.detail for progress in told if progress.step == "image"]
            assert steps[0] == reference
            assert steps[-1].startswith(reference)
            assert " MiB" in steps[-1]
            assert (await answer(deployment))[0] == 200
            await deployment.leases[0].close()
            await emptied(tmp_path / "net")
        log = b"".join(path.read_bytes() for path in (tmp_path / "net").rglob("*.log"))
        assert log
        assert PASSWORD.encode() not in log


def allow(config: Path, host: str) -> None:
    text = config.read_text()
    assert "private_registries = []" in text
    config.write_text(text.replace("private_registries = []", f'private_registries = ["{host}"]'))


def sdl(reference: str, password: str) -> bytes:
    host = reference.partition("/")[0]
    private = f'{reference}\n    credentials: {{host: "{host}", username: {USER}, password: "{password}"}}'
    assert b"image: fondaco/hello:demo" in HELLO
    return HELLO.replace(b"fondaco/hello:demo", private.encode())
