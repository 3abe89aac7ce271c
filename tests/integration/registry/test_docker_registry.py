"""Pulling from Debian's docker-registry: the protocol as another implementation speaks it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import trio
from tests.integration.registry.conftest import StoreOf
from tests.support.made_images import HERE, make_image, make_index
from tests.support.registries import PASSWORD, DockerRegistry, docker_registry, login, need, trusting

from fondaco.node.image import REFERENCE, build_demo_image
from fondaco.protocol.errors import Refused, Unreachable


@pytest.mark.parametrize(("kind", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("docker", "gzip")])
async def test_an_image_is_pulled_verified_and_unpacked(
    debian: DockerRegistry, store_of: StoreOf, kind: str, compression: str
) -> None:
    image = make_image(
        {"a/one": b"1", "a/two": b"2"}, {"a/.wh.one": b"", "b": b"3"}, kind=kind, compression=compression
    )
    reference = debian.push(image, f"team/{kind}-{compression}", "1.0")
    heard: list[tuple[int, int]] = []
    got = await store_of(debian.host).prepare(reference, report=lambda done, total: heard.append((done, total)))
    root = Path(got.rootfs)
    assert got.digest == image.digest
    assert got.config.cmd == ("/hello",)
    assert {path.name for path in (root / "a").iterdir()} == {"two"}
    assert (root / "b").read_bytes() == b"3"
    size = sum(len(image.blobs[layer]) for layer in image.layers)
    assert heard[-1] == (size, size)


@pytest.mark.parametrize("kind", ["oci", "docker"])
async def test_of_an_index_only_the_image_for_this_machine_is_pulled(
    debian: DockerRegistry, store_of: StoreOf, kind: str
) -> None:
    here, other = make_image({"here": b"1"}, kind=kind), make_image({"other": b"2"}, kind=kind)
    index = make_index((f"{HERE}/v9", other), ("s390x", other), (HERE, here), kind=kind)
    reference = debian.push(index, f"team/index-{kind}", "1")
    got = await store_of(debian.host).prepare(reference)
    assert got.digest == here.digest
    assert not any(f'"GET /v2/team/index-{kind}/blobs/{layer}' in debian.asked() for layer in other.layers)
    by_digest = await store_of(debian.host).prepare(f"{debian.host}/team/index-{kind}:nonsense@{index.digest}")
    assert by_digest == got


async def test_a_tag_is_asked_for_each_time_and_what_is_here_is_not_fetched_again(
    debian: DockerRegistry, store_of: StoreOf
) -> None:
    first, second = make_image({"v": b"1"}), make_image({"v": b"2"})
    reference = debian.push(first, "team/moving", "latest")
    store = store_of(debian.host)
    image = await store.prepare(reference)
    before = len(re.findall(r'"GET /v2/team/moving', debian.asked()))
    assert await store.prepare(reference) == image
    assert len(re.findall(r'"GET /v2/team/moving', debian.asked())) == before
    debian.push(second, "team/moving", "latest")
    async with store.held(reference) as held:
        assert held == image  # replicas and restarts are of what was prepared
    assert (await store.prepare(reference)).digest == second.digest
    async with store.held(reference) as held:
        assert held.digest == second.digest


async def test_an_image_or_repository_that_is_not_there_is_said_to_be_so(
    debian: DockerRegistry, store_of: StoreOf
) -> None:
    debian.push(make_image(), "team/there", "1")
    for reference in ("team/there:2", "team/nowhere:1", f"team/there@sha256:{'0' * 64}"):
        with pytest.raises(Refused) as refusal:
            await store_of(debian.host).prepare(f"{debian.host}/{reference}")
        assert refusal.value.code == "image.not_found"


async def test_many_pulls_of_one_image_at_once_download_each_layer_once(
    debian: DockerRegistry, store_of: StoreOf
) -> None:
    image = make_image({"one": b"x" * 100_000}, {"two": b"y" * 100_000})
    reference = debian.push(image, "team/wanted", "1")
    store, roots = store_of(debian.host), set()

    async def prepare() -> None:
        roots.add((await store.prepare(reference)).rootfs)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(prepare)
    assert len(roots) == 1
    for layer in image.layers:
        assert len(re.findall(f'"GET /v2/team/wanted/blobs/{layer}', debian.asked())) == 1


async def test_a_registry_with_passwords_gives_to_who_knows_one(tmp_path: Path, store_of: StoreOf) -> None:
    with docker_registry(tmp_path / "registry", htpasswd=True) as registry:
        reference = registry.push(make_image({"secret": b"1"}), "team/private", "1")
        store = store_of(registry.host)
        for given in (None, login(registry.host, password="wrong"), login("other.example")):
            with pytest.raises(Refused) as refusal:
                await store.prepare(reference, login=given)
            assert refusal.value.code == "image.credentials"
            assert "wrong" not in str(refusal.value)
        image = await store.prepare(reference, login=login(registry.host))
        assert (Path(image.rootfs) / "secret").read_bytes() == b"1"
        # That one tenant has it here opens it to no other.
        with pytest.raises(Refused, match=r"image\.credentials"):
            await store.prepare(reference)
        operators = trusting(registry.host, logins={registry.host: login(registry.host)})
        shared = await store_of(registries=operators).prepare(reference)
        assert shared.digest == image.digest
        assert shared.rootfs != image.rootfs
        assert PASSWORD not in registry.asked()


async def test_where_the_registry_is_down_what_it_said_last_will_do_for_what_everybody_may_have(
    tmp_path: Path, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fondaco.provider.runtimes.bounds.REGISTRY_RETRY_S", (0.001, 0.001))
    with docker_registry(tmp_path / "registry") as registry:
        reference = registry.push(make_image(), "team/app", "1")
        image = await store_of(registry.host).prepare(reference)
    store = store_of(registry.host)  # as after a restart
    assert await store.prepare(reference) == image
    with pytest.raises(Unreachable, match=r"image\.unreachable"):
        await store.prepare(f"{registry.host}/team/app:2")


async def test_a_store_pulls_from_what_skopeo_pushed(
    tmp_path: Path, debian: DockerRegistry, store_of: StoreOf
) -> None:
    """Somebody else's client puts a whole layout there, ours takes it out."""
    copy = (need("skopeo"), "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false")
    built = build_demo_image(tmp_path / "layout")
    subprocess.run(
        [*copy, f"oci:{tmp_path / 'layout'}:{REFERENCE}", f"docker://{debian.host}/demo/hello:1"],
        check=True,
        capture_output=True,
    )
    got = await store_of(debian.host).prepare(f"{debian.host}/demo/hello:1")
    assert got.digest == built.digest
    assert (Path(got.rootfs) / "app" / "server.py").is_file()
