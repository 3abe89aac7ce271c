"""Registries on loopback, and stores that pull from them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.registries import DockerRegistry, StrangeRegistry, docker_registry, strange_registry, trusting

from fondaco.provider.images.blobs import BlobStore
from fondaco.provider.images.cache import ImageCache
from fondaco.provider.images.pulling import RegistrySource
from fondaco.provider.images.registries import Registries
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.oci import ImageStore

StoreOf = Callable[..., ImageStore]


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
async def strange(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StrangeRegistry]:
    monkeypatch.setattr(bounds, "REGISTRY_RETRY_S", (0.001, 0.01))
    async with strange_registry() as registry:
        yield registry


@pytest.fixture
def store_of(tmp_path: Path) -> StoreOf:
    """A store below `images` of the test's folder that trusts what it is told to."""

    def make(*hosts: str, registries: Registries | None = None, cap_bytes: int = 1 << 30) -> ImageStore:
        directory = tmp_path / "images"
        known = trusting(*hosts) if registries is None else registries
        cache = ImageCache(directory, cap_bytes=cap_bytes)
        return ImageStore(directory, [RegistrySource(known, BlobStore(directory / "blobs"))], cache=cache)

    return make
