"""The demo image: the same every time, quick the second time, and an honest OCI layout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.runtime.conftest import NOT_DOCKERS, Bench

from fondaco.node.image import REFERENCE, BuiltImage, build_demo_image
from fondaco.protocol.limits import MIB


def test_building_again_changes_nothing(demo_layout: tuple[Path, BuiltImage]) -> None:
    layout, image = demo_layout
    before = {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    assert build_demo_image(layout) == image
    assert {path: path.stat().st_mtime_ns for path in layout.rglob("*") if path.name != ".lock"} == {
        path: when for path, when in before.items() if path.name != ".lock"
    }
    assert image.reference == REFERENCE


def test_the_same_machine_builds_the_same_digest(demo_layout: tuple[Path, BuiltImage], tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from fondaco.node.image import build_demo_image as b;"
    code += "print(b(Path(sys.argv[1])).digest)"
    other = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == demo_layout[1].digest


def test_other_images_of_the_layout_stay_and_an_older_demo_image_goes(
    demo_layout: tuple[Path, BuiltImage], tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    shutil.copytree(demo_layout[0], layout)
    name = "org.opencontainers.image.ref.name"
    stale = {"digest": "sha256:0", "annotations": {name: REFERENCE, "fondaco.image.built-from": "something else"}}
    other = {"digest": "sha256:1", "annotations": {name: "other:1"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [stale, other]}))
    image = build_demo_image(layout)
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in entries] == ["sha256:1", image.digest]
    assert image == demo_layout[1]


def test_the_image_is_small(demo_layout: tuple[Path, BuiltImage]) -> None:
    size = sum(path.stat().st_size for path in (demo_layout[0] / "blobs").rglob("*") if path.is_file())
    assert size < 40 * MIB


@NOT_DOCKERS
async def test_the_images_python_has_the_basics(bench: Bench) -> None:
    modules = "json, http.client, asyncio, decimal, zoneinfo, threading, urllib.request, csv, zlib, struct, uuid"
    code, lines = await bench.run(f"import {modules}; print('all here')")
    assert (code, lines) == (0, ["all here"])
