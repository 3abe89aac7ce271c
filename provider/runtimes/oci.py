"""Images: found by a source, verified, unpacked once (OCI image spec 1.1: `image-layout.md`, `manifest.md`).

A source answers for references; the store asks its sources in turn, fetches what it needs, checks every digest and
size, and keeps one unpacked tree for each manifest. A tree appears by rename, so it is whole or not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.images.references import DIGEST, Reference, parse_reference
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import Image, ImageConfig
from fondaco.provider.runtimes.unpack import Unpacker, remove_tree

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
REF_NAME = "org.opencontainers.image.ref.name"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a manifest says of a blob."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str]
    platform: dict[str, str]


class ImageSource(Protocol):
    """Somewhere images come from."""

    async def find(self, reference: str) -> Descriptor | None:
        """The manifest or index that `reference` names, or None if this source does not know it."""
        ...

    async def fetch(self, reference: str, blob: Descriptor) -> Path:
        """A file with the bytes of `blob`; not yet verified."""
        ...


class LayoutSource:
    """An OCI image layout: a directory with `index.json` and `blobs/sha256`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def find(self, reference: str) -> Descriptor | None:
        index = self._directory / "index.json"
        if not index.is_file():
            return None
        wanted = parse_reference(reference)
        for entry in _descriptors(_json_file(index), "manifests"):
            if entry.digest == wanted.digest or _named(entry) == wanted:
                return entry
        return None

    async def fetch(self, reference: str, blob: Descriptor) -> Path:
        return self._directory / "blobs" / "sha256" / _hex(blob.digest)


class ImageStore:
    """Unpacked images below `directory`, which only this provider writes to."""

    def __init__(self, directory: Path, sources: Sequence[ImageSource], *, owner: int | None = None) -> None:
        self._directory = directory
        self._sources = tuple(sources)
        self._owner = owner

    async def prepare(self, reference: str) -> Image:
        """Have `reference` here, verified and unpacked.  Raises `Refused` `image.*`."""
        for source in self._sources:
            descriptor = await source.find(reference)
            if descriptor is not None:
                return await self._from(source, reference, descriptor)
        raise Refused(
            "image.not_found",
            f"no source has image {reference!r}",
            hint="put it into the provider's OCI layout, or name a registry the provider pulls from",
        )

    async def _from(self, source: ImageSource, reference: str, descriptor: Descriptor) -> Image:
        manifest = await _document(source, reference, descriptor)
        if descriptor.media_type in INDEX_TYPES:
            descriptor = _for_this_machine(reference, _descriptors(manifest, "manifests"))
            manifest = await _document(source, reference, descriptor)
        if descriptor.media_type not in MANIFEST_TYPES:
            raise Refused("image.unsupported", f"image {reference!r} is a {descriptor.media_type!r}")
        config = await _document(source, reference, _descriptor(manifest.get("config")))
        layers = _descriptors(manifest, "layers")
        diff_ids = config.get("rootfs", {}).get("diff_ids")
        if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
            raise Refused("image.manifest", f"image {reference!r}: layers and diff_ids differ in number")
        root = self._directory / _hex(descriptor.digest)
        if not root.is_dir():
            blobs = [await source.fetch(reference, layer) for layer in layers]
            await trio.to_thread.run_sync(self._unpack, root, blobs, layers, diff_ids)
        return Image(digest=descriptor.digest, config=_image_config(config), rootfs=str(root))

    def _unpack(self, root: Path, blobs: list[Path], layers: list[Descriptor], diff_ids: list[str]) -> None:
        with _lock(self._directory / ".lock"):
            if root.is_dir():
                return  # another process was faster
            partial = root.with_suffix(".partial")
            if partial.exists():
                remove_tree(partial)
            partial.mkdir(mode=0o755)
            try:
                unpacker = Unpacker(partial, owner=self._owner)
                for blob, layer, diff_id in zip(blobs, layers, diff_ids, strict=True):
                    verify(blob, layer)
                    unpacker.apply(blob, layer.media_type, diff_id)
                unpacker.finish()
                partial.rename(root)
            except BaseException:
                remove_tree(partial)
                raise


def verify(path: Path, blob: Descriptor) -> None:
    """Raise `Refused` unless the file at `path` has the size and digest of `blob`."""
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while size == blob.size and (data := file.read(CHUNK_BYTES)):
                digest.update(data)
    except FileNotFoundError:
        raise Refused("image.not_found", f"blob {blob.digest} is missing") from None
    if size != blob.size:
        raise Refused("image.digest", f"blob {blob.digest} has {size} bytes, its manifest says {blob.size}")
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        raise Refused("image.digest", f"blob {blob.digest} has other content than its digest says")


async def _document(source: ImageSource, reference: str, blob: Descriptor) -> dict[str, Any]:
    if blob.size > bounds.IMAGE_MANIFEST_BYTES:
        raise Refused("image.limit", f"image {reference!r}: {blob.media_type} of {blob.size} bytes")
    path = await source.fetch(reference, blob)
    verify(path, blob)
    return _json_file(path)


def _json_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(bounds.IMAGE_MANIFEST_BYTES + 1)
    try:
        content = json.loads(data) if len(data) <= bounds.IMAGE_MANIFEST_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refused("image.manifest", f"{path.name[:16]} is no JSON object, or too large")
    return content


def _descriptors(document: dict[str, Any], field: str) -> list[Descriptor]:
    entries = document.get(field)
    if not isinstance(entries, list) or (field == "layers" and len(entries) > bounds.IMAGE_LAYERS):
        raise Refused("image.manifest", f"{field} is no list, or too long")
    return [_descriptor(entry) for entry in entries]


def _descriptor(entry: Any) -> Descriptor:
    match entry:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)}:
            annotations, on = entry.get("annotations") or {}, entry.get("platform") or {}
            if DIGEST.fullmatch(digest) and isinstance(annotations, dict) and isinstance(on, dict):
                return Descriptor(
                    media_type=media_type, digest=digest, size=size, annotations=annotations, platform=on
                )
    raise Refused("image.manifest", f"{str(entry)[:100]} describes no blob with a sha256 digest")


def _for_this_machine(reference: str, entries: list[Descriptor]) -> Descriptor:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for entry in entries:
        if entry.platform.get("os") == "linux" and entry.platform.get("architecture") == architecture:
            return entry
    raise Refused("image.platform", f"image {reference!r} is not built for linux/{architecture}")


def _image_config(document: dict[str, Any]) -> ImageConfig:
    config = document.get("config") or {}

    def words(field: str) -> tuple[str, ...]:
        value = config.get(field) or []
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise Refused("image.manifest", f"config.{field} is no list of text")
        return tuple(value)

    if not isinstance(config, dict) or not isinstance(config.get("WorkingDir") or "", str):
        raise Refused("image.manifest", "the image's config is malformed")
    return ImageConfig(
        entrypoint=words("Entrypoint"),
        cmd=words("Cmd"),
        env=words("Env"),
        working_dir=config.get("WorkingDir") or "/",
    )


def _named(entry: Descriptor) -> Reference | None:
    try:
        return parse_reference(str(entry.annotations.get(REF_NAME, "")))
    except Refused:
        return None  # a name for other tools


def _hex(digest: str) -> str:
    assert DIGEST.fullmatch(digest), "descriptors hold only sha256 digests"
    return digest.removeprefix("sha256:")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
