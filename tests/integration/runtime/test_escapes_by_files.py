"""Ways out of a sandbox by files, and abuses of the disk: layers, links, mount points; none works."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import signal
import tarfile
from pathlib import Path

import pytest
import trio
from tests.integration.runtime.conftest import NOR_ENGINES, PATIENCE_SECONDS, SECRET, Bench, ended

from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import MIB
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes import disk
from fondaco.provider.runtimes.port import Reason, State, VolumeMount

FILL = {
    "one file": """
data = b'x' * (1 << 20)
with open(PLACE + '/big', 'wb') as file:
    while True:
        file.write(data); file.flush()
""",
    "many files": """
import itertools
for n in itertools.count():
    open(f'{PLACE}/{n}', 'wb').write(b'x' * (1 << 20)); print(n)
""",
    "empty files": """
import itertools
for n in itertools.count():
    open(f'{PLACE}/{n}', 'wb').close()
""",
    "deleted files": """
import itertools, os, signal
kept = []
for n in range(200):
    kept.append(open(f'{PLACE}/x', 'wb'))
    os.unlink(f'{PLACE}/x')
    kept[-1].write(b'x' * (1 << 20))
    kept[-1].flush()
signal.pause()
""",
}


@pytest.mark.parametrize(("way", "place"), [*((way, "/data") for way in FILL), ("many files", "/app")])
async def test_the_disk_cannot_be_filled(
    each_bench: Bench, way: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "EVERY_S", 0.05)
    if place == "/app" and not (await each_bench.runtime.probe()).writable_root:
        pytest.skip("this backend's root cannot be written to at all")
    limit = 16 * MIB
    volume = VolumeMount(name="data", path="/data", size_bytes=limit)
    spec = each_bench.spec(f"PLACE = {place!r}\n" + FILL[way], ephemeral_bytes=limit, volumes=(volume,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(each_bench.runtime.watch)
        workload = await each_bench.runtime.start(spec)
        with trio.fail_after(3 * PATIENCE_SECONDS):
            last = await each_bench.runtime.wait(workload.id)
        nursery.cancel_scope.cancel()
    if way == "one file":
        # The kernel stops it: by a signal, or by an error where it is the first process and no signal ends it.
        assert last.exit_code in (1, 128 + signal.SIGXFSZ) or last.reason is Reason.DISK
        assert [path.stat().st_size for path in each_bench.home.rglob("big")] == [limit]
    else:
        assert (last.exit_code, last.reason) == (137, Reason.DISK)
    await each_bench.runtime.stop(workload.id)


async def test_who_keeps_within_the_disk_it_was_let_is_left_alone(
    each_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "EVERY_S", 0.05)
    code = "import time; open('/data/x', 'wb').write(b'x' * (10 << 20)); print('full'); time.sleep(600)"
    volume = VolumeMount(name="data", path="/data", size_bytes=16 * MIB)
    workload = await each_bench.runtime.start(each_bench.spec(code, ephemeral_bytes=MIB << 4, volumes=(volume,)))
    await each_bench.line(workload, "full")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(each_bench.runtime.watch)
        with trio.move_on_after(0.5):
            await each_bench.runtime.wait(workload.id)
        nursery.cancel_scope.cancel()
    assert (await each_bench.runtime.status(workload.id)).state is State.RUNNING


def layout_with(top: Path, *members: tuple[str, bytes, str]) -> None:
    """An OCI layout with an image `evil:1` of one layer: (name, type, content or link)."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            content = text.encode() if kind == tarfile.REGTYPE else b""
            info.size, info.linkname = len(content), "" if content else text
            archive.addfile(info, io.BytesIO(content))
    (top / "blobs" / "sha256").mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (top / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    diff_id = "sha256:" + hashlib.sha256(plain.getvalue()).hexdigest()
    config = {"os": "linux", "config": {"Cmd": ["/bin/true"]}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(plain.getvalue()), "layer.v1.tar+gzip")],
    }
    entry = put(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "evil:1"}
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


@NOR_ENGINES
@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", tarfile.REGTYPE, "x")],
        [("HOST/escaped", tarfile.REGTYPE, "x")],
        [("up", tarfile.SYMTYPE, "../../.."), ("up/escaped", tarfile.REGTYPE, "x")],
        [("out", tarfile.SYMTYPE, "HOST"), ("out/escaped", tarfile.REGTYPE, "x")],
        [("hard", tarfile.LNKTYPE, "../secret")],
        [("out", tarfile.SYMTYPE, "HOST"), ("hard", tarfile.LNKTYPE, "out/secret")],
        [("out", tarfile.SYMTYPE, "HOST"), ("out/.wh.secret", tarfile.REGTYPE, "")],
    ],
    ids=["dots", "absolute", "link up", "link out", "hard link", "hard link through a link", "whiteout"],
)
async def test_no_layer_of_an_image_reaches_out_of_it(
    each_bench: Bench, tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "secret").write_text(SECRET)
    named = [
        (name.replace("HOST", str(host)), kind, text.replace("HOST", str(host))) for name, kind, text in members
    ]
    layout_with(tmp_path / "evil", *named)
    bench = Bench(host / "home", tmp_path / "evil", each_bench.image, each_bench.backend, each_bench.service)
    with contextlib.suppress(Refused):  # or it is unpacked, and all it brought lies inside
        await bench.runtime.prepare("evil:1")
    await ended(bench)
    assert sorted(path.name for path in host.iterdir()) == ["home", "secret"]
    assert (host / "secret").read_text() == SECRET
    assert (host / "secret").stat().st_nlink == 1
    inside = host / "home" / "images"
    assert all(path.is_relative_to(inside) for path in tmp_path.rglob("escaped"))


async def test_a_mount_point_below_a_link_of_the_image_is_not_made_outside(
    each_bench: Bench, tmp_path: Path, host: Path
) -> None:
    layout_with(tmp_path / "evil", ("data", tarfile.SYMTYPE, f"/oldroot{host}"))
    bench = Bench(
        each_bench.home / "other", tmp_path / "evil", each_bench.image, each_bench.backend, each_bench.service
    )
    volume = VolumeMount(name="data", path="/data/made", size_bytes=MIB)
    with contextlib.suppress(Refused):  # there is no program in it anyway
        await bench.runtime.start(bench.spec(image="evil:1", command=("/bin/true",), volumes=(volume,)))
    await ended(bench)
    assert [path.name for path in host.iterdir()] == ["secret"]


async def test_a_link_in_a_volume_leads_nowhere_out_of_the_sandbox(each_bench: Bench, host: Path) -> None:
    lease = LeaseId(b"\2" * 32)
    outer = VolumeMount(name="outer", path="/data", size_bytes=4 * MIB, persistent=True)
    plant = f"""
import os
os.symlink({str(host / "secret")!r}, '/data/file')
os.symlink({str(host)!r}, '/data/folder')
os.symlink('/oldroot' + {str(host)!r}, '/data/old')
os.symlink('/proc/1/root' + {str(host)!r}, '/data/proc')
"""
    assert await each_bench.run(plant, lease=lease, volumes=(outer,)) == (0, [])
    read = """
import os
for name in ('file', 'folder/secret', 'old/secret', 'proc/secret'):
    print(os.path.exists('/data/' + name))
"""
    assert await each_bench.run(read, lease=lease, volumes=(outer,)) == (0, ["False"] * 4)
    # A second volume to be mounted where the tenant has left a link: it may fail, it may not be made outside.
    for through in ("folder", "old", "proc"):
        inner = VolumeMount(name="inner", path=f"/data/{through}/made", size_bytes=4 * MIB)
        with contextlib.suppress(Refused):
            await each_bench.run(f"open('/data/{through}/made/x', 'w')", lease=lease, volumes=(outer, inner))
        assert [path.name for path in host.iterdir()] == ["secret"], through
    (workload,) = each_bench.runtime.kept()
    await each_bench.runtime.forget(workload)
    assert (host / "secret").read_text() == SECRET


async def test_mount_points_appear_in_the_sandbox_and_not_in_the_image_that_others_share(
    each_bench: Bench,
) -> None:
    paths = ("/data", "/data/in", "/var/lib/some/where", "/usr/local/lib/deep")
    volumes = tuple(VolumeMount(name=f"v{number}", path=path, size_bytes=MIB) for number, path in enumerate(paths))
    root = Path((await each_bench.runtime.prepare(each_bench.image.reference)).rootfs)
    before = sorted(root.rglob("*"))
    code = f"""
for path in {paths!r}: open(path + '/x', 'w').write(path)
print([open(path + '/x').read() for path in {paths!r}] == list({paths!r}))
import http.server
"""
    assert await each_bench.run(code, volumes=volumes) == (0, ["True"])
    assert sorted(root.rglob("*")) == before
