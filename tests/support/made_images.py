"""Images for tests, made in memory: of OCI's kind and of Docker's, and indexes of several."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
TYPES = {
    "oci": (
        f"{OCI}.manifest.v1+json",
        f"{OCI}.index.v1+json",
        f"{OCI}.config.v1+json",
        f"{OCI}.layer.v1.tar+gzip",
    ),
    "docker": (
        f"{DOCKER}.distribution.manifest.v2+json",
        f"{DOCKER}.distribution.manifest.list.v2+json",
        f"{DOCKER}.container.image.v1+json",
        f"{DOCKER}.image.rootfs.diff.tar.gzip",
    ),
}
ZSTD_LAYER = f"{OCI}.layer.v1.tar+zstd"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeImage:
    """An image as a registry keeps it."""

    digest: str
    """Of its manifest or index."""
    documents: dict[str, tuple[str, bytes]]
    """Manifests and indexes: digest -> media type and content."""
    blobs: dict[str, bytes]
    layers: tuple[str, ...]
    """Digests."""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def make_image(
    *layers: Mapping[str, bytes] | bytes, kind: str = "oci", compression: str = "gzip", **config: Any
) -> MadeImage:
    """Of layers given as files or as archives; `config` goes into the image's configuration."""
    manifest_type, _, config_type, layer_type = TYPES[kind]
    if compression == "zstd":
        layer_type = ZSTD_LAYER
    raws = [layer if isinstance(layer, bytes) else tar_of(layer) for layer in layers or ({"hello": b"hi"},)]
    packed = [zstd.compress(raw) if compression == "zstd" else gzip.compress(raw, 1, mtime=0) for raw in raws]
    blobs = {digest_of(data): data for data in packed}
    settings = json.dumps(
        {
            "architecture": HERE,
            "os": "linux",
            "config": {"Cmd": ["/hello"], **config},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(raw) for raw in raws]},
        }
    ).encode()
    blobs[digest_of(settings)] = settings
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": describe(settings, config_type),
            "layers": [describe(data, layer_type) for data in packed],
        }
    ).encode()
    return MadeImage(
        digest=digest_of(manifest),
        documents={digest_of(manifest): (manifest_type, manifest)},
        blobs=blobs,
        layers=tuple(digest_of(data) for data in packed),
    )


def make_index(*images: tuple[str, MadeImage], kind: str = "oci") -> MadeImage:
    """An index of images by architecture, each perhaps with its variant: `arm/v7`."""
    entries: list[dict[str, Any]] = []
    documents: dict[str, tuple[str, bytes]] = {}
    blobs: dict[str, bytes] = {}
    for where, image in images:
        architecture, _, variant = where.partition("/")
        media_type, content = image.documents[image.digest]
        on = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        entries.append({**describe(content, media_type), "platform": on})
        documents |= image.documents
        blobs |= image.blobs
    index = json.dumps({"schemaVersion": 2, "mediaType": TYPES[kind][1], "manifests": entries}).encode()
    documents[digest_of(index)] = (TYPES[kind][1], index)
    return MadeImage(digest=digest_of(index), documents=documents, blobs=blobs, layers=())


def image_in(layout: Path) -> MadeImage:
    """The first image of an OCI layout."""
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    blobs = {f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}
    manifest = blobs.pop(entry["digest"])
    return MadeImage(
        digest=entry["digest"],
        documents={entry["digest"]: (entry["mediaType"], manifest)},
        blobs=blobs,
        layers=tuple(layer["digest"] for layer in json.loads(manifest)["layers"]),
    )


def describe(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
