"""Images in the room they have, over real pulls, real workloads and real kills."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio
from tests.integration.registry.conftest import StoreOf
from tests.support.children import ROOT
from tests.support.made_images import digest_of, make_image
from tests.support.registries import Answer, StrangeRegistry

from fondaco.node.image import REFERENCE, build_demo_image
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.embedded import EmbeddedRuntime, open_cache
from fondaco.provider.runtimes.oci import LayoutSource
from fondaco.provider.runtimes.port import WorkloadSpec

PULL = """
import sys, trio
from pathlib import Path
from tests.support.registries import trusting
from fondaco.provider.images.blobs import BlobStore
from fondaco.provider.images.pulling import RegistrySource
from fondaco.provider.runtimes.oci import ImageStore
directory, host, reference = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = ImageStore(directory, [RegistrySource(trusting(host), BlobStore(directory / "blobs"))])
async def main():
    await store.prepare(reference, report=lambda done, total: print(done, flush=True))
trio.run(main)
"""


@asynccontextmanager
async def pulling(images: Path, strange: StrangeRegistry, reference: str) -> AsyncIterator[trio.Process]:
    """A process that pulls, and says how many bytes it has; killed at the end of the block."""
    command = [sys.executable, "-c", PULL, str(images), strange.host, reference]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        with trio.fail_after(60):
            yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


def noise(seed: int, size: int) -> bytes:
    return b"".join(bytes.fromhex(digest_of(b"%d %d" % (seed, part))[7:]) for part in range(size // 32))


async def test_images_that_do_not_fit_together_take_turns(strange: StrangeRegistry, store_of: StoreOf) -> None:
    images = [make_image({"noise": noise(number, 200_000)}) for number in range(3)]
    references = [strange.add(image, tag=str(number)) for number, image in enumerate(images)]
    store = store_of(strange.host, cap_bytes=900_000)
    roots = [Path((await store.prepare(reference)).rootfs) for reference in references]
    assert [root.is_dir() for root in roots] == [False, True, True]
    await store.prepare(references[0])
    assert [root.is_dir() for root in roots] == [True, False, True]
    directory = roots[0].parent
    taken = sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))
    assert taken <= 900_000


async def test_a_pull_that_was_killed_goes_on_where_it_was_in_the_next_process(
    strange: StrangeRegistry, store_of: StoreOf, tmp_path: Path
) -> None:
    image = make_image({"noise": noise(0, 3 * MIB)})
    reference, (layer,) = strange.add(image), image.layers
    content = image.blobs[layer]
    strange.when(layer, Answer(body=content[: MIB + 10], length=len(content), stalls=True), times=1)
    store = store_of(strange.host)
    async with pulling(tmp_path / "images", strange, reference) as process:
        assert process.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            said += await process.stdout.receive_some()
        assert said == f"{MIB}\n".encode()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.prepare, reference)  # waits: the other process is at it
            while strange.count("/manifests/", "HEAD") < 2:
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            assert strange.count(layer) == 1
            process.kill()
    assert strange.asked[-1].headers["range"] == f"bytes={MIB}-"
    assert strange.count(layer) == 2


async def test_unpacking_that_was_killed_leaves_nothing_that_the_next_process_keeps(
    strange: StrangeRegistry, store_of: StoreOf, tmp_path: Path
) -> None:
    image = make_image({f"d{number % 50}/f{number}": b"x" for number in range(5_000)})
    reference, images = strange.add(image), tmp_path / "images"
    partial = images / f"{image.digest.removeprefix('sha256:')}.partial"
    async with pulling(images, strange, reference):
        while not (partial / "d0").exists():
            await trio.sleep(0.001)
    assert partial.is_dir()
    other = strange.add(make_image(), tag="other")
    await store_of(strange.host).prepare(other)
    assert not partial.exists()
    root = Path((await store_of(strange.host).prepare(reference)).rootfs)
    assert sum(path.is_file() for path in root.glob("d*/*")) == 5_000
    assert strange.count(image.layers[0]) == 1


async def test_an_image_stays_while_a_workload_is_of_it_and_goes_when_it_was_stopped(tmp_path: Path) -> None:
    build_demo_image(tmp_path / "layout")
    home = tmp_path / "runtime"
    spec = WorkloadSpec(
        lease=LeaseId(bytes(32)), service="web", image=REFERENCE, cpu_milli=100, memory_bytes=256 * MIB
    )
    async with aclosing(EmbeddedRuntime(home, [LayoutSource(tmp_path / "layout")])) as runtime:
        try:
            await runtime.probe()
        except Refused as refused:
            pytest.skip(f"no sandbox on this machine: {refused}")
        workload = await runtime.start(spec)
        prune = open_cache(home, 0)  # another process's: it knows the folder, and nothing else
        try:
            assert prune.make_room(0) == []
            assert (await runtime.exec(workload.id, ["python3", "-c", "import json"])).exit_code == 0
        finally:
            await runtime.stop(workload.id, grace_ms=0)
        assert [item.record.references for item in prune.make_room(0) if item.record] == [
            ("docker.io/fondaco/hello:demo",)
        ]
        # It is there again for the next start.
        again = await runtime.start(spec)
        await runtime.stop(again.id, grace_ms=0)
