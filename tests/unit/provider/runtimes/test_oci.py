"""Finding, verifying and unpacking images from an OCI layout."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest
import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes.oci import ImageStore, LayoutSource

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class Layout:
    """Writes images, honest ones unless told otherwise."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.blobs = top / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self.entries: list[dict[str, Any]] = []
        self.store = ImageStore(top / "images", [LayoutSource(top)])

    def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def json(self, content: object, media_type: str) -> dict[str, Any]:
        return self.put(json.dumps(content).encode(), media_type)

    def image(self, *, config: Any = None, diff_ids: list[str] | None = None, **changes: Any) -> dict[str, Any]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo("hello")
            member.size = 2
            archive.addfile(member, io.BytesIO(b"hi"))
        raw = buffer.getvalue()
        ids = [f"sha256:{hashlib.sha256(raw).hexdigest()}"] if diff_ids is None else diff_ids
        document = {"config": config or {"Cmd": ["/hello"]}, "rootfs": {"type": "layers", "diff_ids": ids}}
        manifest = {"config": self.json(document, CONFIG), "layers": [self.put(raw, LAYER)], **changes}
        return self.json(manifest, MANIFEST)

    def name(self, reference: str, entry: dict[str, Any]) -> None:
        named = {**entry, "annotations": {"org.opencontainers.image.ref.name": reference}}
        self.entries.append(named)
        (self.top / "index.json").write_text(json.dumps({"manifests": self.entries}))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


async def test_an_image_is_found_by_tag_by_digest_and_by_default_tag(layout: Layout) -> None:
    entry = layout.image(config={"Entrypoint": ["/hello"], "Env": ["A=1"], "WorkingDir": "/w"})
    layout.name("team/app:latest", entry)
    image = await layout.store.prepare("team/app:latest")
    assert image.digest == entry["digest"]
    assert (image.config.entrypoint, image.config.cmd) == (("/hello",), ())
    assert (image.config.env, image.config.working_dir) == (("A=1",), "/w")
    assert (Path(image.rootfs) / "hello").read_text() == "hi"
    for reference in ("team/app", f"team/app@{entry['digest']}", f"x@{entry['digest']}"):
        assert await layout.store.prepare(reference) == image


async def test_an_index_leads_to_the_image_for_this_machine(layout: Layout) -> None:
    entry = layout.image()
    other = {**layout.image(config={"Cmd": ["/other"]}), "platform": {"os": "linux", "architecture": "s390x"}}
    here = {**entry, "platform": {"os": "linux", "architecture": HERE}}
    layout.name("app:1", layout.json({"manifests": [other, here]}, INDEX))
    layout.name("foreign:1", layout.json({"manifests": [other]}, INDEX))
    assert (await layout.store.prepare("app:1")).digest == entry["digest"]
    with pytest.raises(Refused, match=r"image\.platform"):
        await layout.store.prepare("foreign:1")


async def test_an_unknown_image_is_refused_with_what_to_do(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"image\.not_found.*OCI layout"):
        await layout.store.prepare("library/nginx:1")
    layout.name("app:1", layout.image())
    with pytest.raises(Refused, match=r"image\.not_found"):
        await layout.store.prepare("app:2")


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", ["changed", "longer", "missing"])
async def test_a_blob_that_is_not_what_its_digest_says_is_refused(layout: Layout, which: str, damage: str) -> None:
    entry = layout.image()
    layout.name("app:1", entry)
    manifest = json.loads((layout.blobs / entry["digest"][7:]).read_bytes())
    blob = {"manifest": entry, "config": manifest["config"], "layer": manifest["layers"][0]}[which]
    path = layout.blobs / blob["digest"][7:]
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data + b" " if damage == "longer" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Refused, match=r"image\.(digest|not_found)"):
        await layout.store.prepare("app:1")
    images = layout.top / "images"
    assert not images.exists() or [path.name for path in images.iterdir()] == [".lock"]


async def test_manifests_that_make_no_sense_are_refused(layout: Layout) -> None:
    layout.name("diffs:1", layout.image(diff_ids=[]))
    layout.name("diff:1", layout.image(diff_ids=["\ud800"]))
    layout.name("layers:1", layout.image(layers="none"))
    layout.name("layer:1", layout.image(layers=[{"digest": "md5:1"}]))
    layout.name("many:1", layout.image(layers=[layout.put(b"", LAYER)] * 200))
    layout.name("config:1", layout.image(config={"Cmd": "text"}))
    layout.name("dir:1", layout.image(config={"WorkingDir": 3}))
    layout.name("text:1", layout.put(b"no json", MANIFEST))
    layout.name("list:1", layout.put(b"[]", MANIFEST))
    for name in ("diffs", "diff", "layers", "layer", "many", "config", "dir", "text", "list"):
        with pytest.raises(Refused, match=r"image\.manifest"):
            await layout.store.prepare(f"{name}:1")
    layout.name("type:1", layout.put(b"{}", "text/plain"))
    with pytest.raises(Refused, match=r"image\.unsupported"):
        await layout.store.prepare("type:1")
    layout.name("huge:1", {**layout.image(), "size": 1 << 40})
    with pytest.raises(Refused, match=r"image\.limit"):
        await layout.store.prepare("huge:1")


async def test_preparing_an_image_many_times_at_once_unpacks_it_once(layout: Layout) -> None:
    layout.name("app:1", layout.image())
    roots: set[str] = set()

    async def prepare() -> None:
        roots.add((await layout.store.prepare("app:1")).rootfs)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(prepare)
    assert len(roots) == 1


async def test_a_disk_that_takes_nothing_refuses_the_image_and_stops_nothing_else(layout: Layout) -> None:
    layout.name("app:1", layout.image())
    (layout.top / "images").write_text("no folder")
    with pytest.raises(Refused, match=r"image\.disk"):
        await layout.store.prepare("app:1")


async def test_what_a_killed_unpacking_left_behind_is_replaced(layout: Layout) -> None:
    entry = layout.image()
    layout.name("app:1", entry)
    partial = layout.top / "images" / f"{entry['digest'][7:]}.partial"
    partial.mkdir(parents=True)
    (partial / "half").write_text("")
    image = await layout.store.prepare("app:1")
    assert not (Path(image.rootfs) / "half").exists()
    assert not partial.exists()
