"""The documents of an image: indexes, manifests, configurations (OCI image spec 1.1, and Docker's schema 2)."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from typing import Any

from fondaco.protocol.errors import Refused
from fondaco.provider.images.references import DIGEST
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import ImageConfig

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8")}
"""Of an architecture: those that run on any machine of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What a manifest says of a blob."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, Any]
    platform: dict[str, Any]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def document(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`.  Raises `Refused` `image.manifest`."""
    try:
        content = json.loads(data) if len(data) <= bounds.IMAGE_MANIFEST_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refused("image.manifest", f"{what} is no JSON object, or too large")
    return content


def descriptors(content: dict[str, Any], name: str) -> list[Descriptor]:
    """Those in the list `name` of a document.  Raises `Refused` `image.manifest` or `image.limit`."""
    entries = content.get(name)
    if not isinstance(entries, list) or (name == "layers" and len(entries) > bounds.IMAGE_LAYERS):
        raise Refused("image.manifest", f"{name} is no list, or too long")
    found = [descriptor(entry) for entry in entries]
    if name == "layers" and any(layer.size > bounds.IMAGE_LAYER_BYTES for layer in found):
        raise Refused("image.limit", f"a layer is larger than {bounds.IMAGE_LAYER_BYTES} bytes")
    return found


def descriptor(entry: Any) -> Descriptor:
    """Raises `Refused` `image.manifest`."""
    match entry:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)}:
            annotations, on = entry.get("annotations") or {}, entry.get("platform") or {}
            whole = DIGEST.fullmatch(digest) is not None and size >= 0
            if whole and isinstance(annotations, dict) and isinstance(on, dict):
                return Descriptor(
                    media_type=media_type, digest=digest, size=size, annotations=annotations, platform=on
                )
    raise Refused("image.manifest", f"{str(entry)[:100]} describes no blob with a sha256 digest")


def for_this_machine(reference: str, entries: list[Descriptor]) -> Descriptor:
    """The first that any machine like this one runs.  Raises `Refused` `image.platform`."""
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    variants = VARIANTS.get(architecture)
    for entry in entries:
        on = entry.platform
        runs = variants is None or (on.get("variant") or "") in variants
        if (on.get("os"), on.get("architecture")) == ("linux", architecture) and runs:
            return entry
    raise Refused("image.platform", f"image {reference} is not built for linux/{architecture}")


def image_config(content: dict[str, Any]) -> ImageConfig:
    """How the image wants to be run.  Raises `Refused` `image.manifest`."""
    config = content.get("config") or {}

    def words(name: str) -> tuple[str, ...]:
        value = config.get(name) or []
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise Refused("image.manifest", f"config.{name} is no list of text")
        return tuple(value)

    if not isinstance(config, dict) or not isinstance(config.get("WorkingDir") or "", str):
        raise Refused("image.manifest", "the image's config is malformed")
    return ImageConfig(
        entrypoint=words("Entrypoint"),
        cmd=words("Cmd"),
        env=words("Env"),
        working_dir=config.get("WorkingDir") or "/",
    )


def diff_ids(content: dict[str, Any], layers: list[Descriptor]) -> list[str]:
    """What the image's configuration says each of `layers` unpacks to.  Raises `Refused` `image.manifest`."""
    rootfs = content.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(found, list) or len(found) != len(layers):
        raise Refused("image.manifest", "layers and diff_ids differ in number")
    if not all(isinstance(one, str) and DIGEST.fullmatch(one) for one in found):
        raise Refused("image.manifest", "a diff_id is no sha256 digest")
    return found
