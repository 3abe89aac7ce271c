"""Images: found by a source, verified, unpacked once (OCI image spec 1.1: `image-layout.md`, `manifest.md`).

A source answers for references; the store asks its sources in turn, fetches what it needs, and keeps one unpacked
tree for each manifest. A tree appears by rename, so it is whole or not there.
"""

from __future__ import annotations

import fcntl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol
from weakref import WeakValueDictionary

import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.provider.images import manifests
from fondaco.provider.images.blobs import PARTIAL, key_of, matches
from fondaco.provider.images.cache import ImageCache, Record, tree_bytes
from fondaco.provider.images.manifests import Descriptor
from fondaco.provider.images.references import Reference, parse_reference
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.port import Image, Report, quiet
from fondaco.provider.runtimes.unpack import Unpacker, remove_tree
from fondaco.provider.together import run_all

REF_NAME = "org.opencontainers.image.ref.name"
KNOWN = 1_024
"""Images prepared by this process that it starts again without asking anyone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An image that somebody asks for."""

    reference: Reference
    login: Login | None = None
    """The tenant's."""
    report: Report = quiet


class FoundImage(Protocol):
    """An image at its source."""

    @property
    def descriptor(self) -> Descriptor:
        """Its manifest or index."""
        ...

    @property
    def scope(self) -> str:
        """Empty for what everybody may have; else what has to be shown to a registry for it: see `key_of`."""
        ...

    async def fetch(self, blob: Descriptor, report: Callable[[int], None]) -> IO[bytes]:
        """A file with the bytes of `blob`, verified; `report` hears how many of them are here.

        Raises `Refused` `image.*` and `Unreachable` `image.unreachable`.
        """
        ...


class ImageSource(Protocol):
    """Somewhere images come from."""

    def open(self, wanted: Wanted) -> AbstractAsyncContextManager[FoundImage | None]:
        """What `wanted` names, or None if this source does not know it."""
        ...


class LayoutSource:
    """An OCI image layout: a directory with `index.json` and `blobs/sha256`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @asynccontextmanager
    async def open(self, wanted: Wanted) -> AsyncIterator[FoundImage | None]:
        index = self._directory / "index.json"
        if not index.is_file():
            yield None
            return
        with index.open("rb") as file:
            content = manifests.document(file.read(bounds.IMAGE_MANIFEST_BYTES + 1), "index.json")
        for entry in manifests.descriptors(content, "manifests"):
            if entry.digest == wanted.reference.digest or _named(entry) == wanted.reference:
                yield _InLayout(self._directory, entry)
                return
        yield None


@dataclass(frozen=True, slots=True)
class _InLayout:
    directory: Path
    descriptor: Descriptor
    scope: str = ""

    async def fetch(self, blob: Descriptor, report: Callable[[int], None]) -> IO[bytes]:
        path = self.directory / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise Refused("image.not_found", f"blob {blob.digest} is missing") from None
        if not await trio.to_thread.run_sync(matches, file, blob.digest, blob.size):
            file.close()
            raise Refused("image.digest", f"blob {blob.digest} is not what its digest and size say")
        report(blob.size)
        return file


class ImageStore:
    """Unpacked images below `directory`, from `sources`, in the room that `cache` gives them."""

    def __init__(
        self,
        directory: Path,
        sources: Sequence[ImageSource],
        *,
        owner: int | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        self._directory = directory
        self._sources = tuple(sources)
        self._owner = owner
        self._cache = ImageCache(directory) if cache is None else cache
        self._known: OrderedDict[tuple[str, Login | None], Image] = OrderedDict()
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._sweeping = trio.Lock()
        self._swept = False

    async def prepare(self, reference: str, *, login: Login | None = None, report: Report = quiet) -> Image:
        """Have `reference` here, as it is named now, verified and unpacked.

        Where its registry cannot be asked, what it named last will do, if everybody may have it.
        Raises `Refused` `image.*` and `Unreachable` `image.unreachable`.
        """
        wanted = Wanted(reference=parse_reference(reference), login=login, report=report)
        try:
            await self._sweep()
            with trio.fail_after(bounds.IMAGE_PULL_TIMEOUT_S):
                image = await self._prepare(wanted)
        except OSError as error:
            message = f"no place on the disk for {wanted.reference}: {error.strerror}"
            raise Refused("image.disk", message) from error
        except (Unreachable, trio.TooSlowError) as error:
            record = await trio.to_thread.run_sync(self._cache.find, str(wanted.reference))
            if record is None and isinstance(error, Unreachable):
                raise
            if record is None:
                limit = f"{bounds.IMAGE_PULL_TIMEOUT_S} seconds"
                raise Unreachable("image.unreachable", f"{wanted.reference} did not come in {limit}") from None
            image = record.image(self._directory)
        self._known[reference, login] = image
        self._known.move_to_end((reference, login))
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return image

    @asynccontextmanager
    async def held(self, reference: str, login: Login | None = None) -> AsyncIterator[Image]:
        """The image, not removed while this lasts; one that was prepared before is not asked for again."""
        while True:
            image = self._known.get((reference, login))
            if image is None or not Path(image.rootfs).is_dir():
                image = await self.prepare(reference, login=login)
            with ExitStack() as stack:
                try:
                    stack.enter_context(self._cache.hold(Path(image.rootfs)))
                except (FileNotFoundError, BlockingIOError):
                    await trio.sleep(0)  # it is just being removed
                    continue
                yield image
                return

    async def _sweep(self) -> None:
        """Once, before the first image comes."""
        async with self._sweeping:
            if not self._swept:
                await trio.to_thread.run_sync(self._cache.sweep)
                self._swept = True

    async def _prepare(self, wanted: Wanted) -> Image:
        for source in self._sources:
            async with source.open(wanted) as found:
                if found is not None:
                    return await self._from(found, wanted)
        raise Refused(
            "image.not_found",
            f"no source has image {wanted.reference}",
            hint="put it into the provider's OCI layout, or name a registry the provider pulls from",
        )

    async def _from(self, found: FoundImage, wanted: Wanted) -> Image:
        reference, descriptor = str(wanted.reference), found.descriptor
        manifest = await _document(found, descriptor)
        if descriptor.media_type in manifests.INDEX_TYPES:
            descriptor = manifests.for_this_machine(reference, manifests.descriptors(manifest, "manifests"))
            manifest = await _document(found, descriptor)
        if descriptor.media_type not in manifests.MANIFEST_TYPES:
            raise Refused("image.unsupported", f"image {reference} is a {descriptor.media_type[:100]!r}")
        config = await _document(found, manifests.descriptor(manifest.get("config")))
        layers = manifests.descriptors(manifest, "layers")
        diff_ids = manifests.diff_ids(config, layers)
        record = Record(
            key=key_of(descriptor.digest, found.scope),
            digest=descriptor.digest,
            references=(reference,),
            shared=not found.scope,
            config=manifests.image_config(config),
        )
        lock = self._locks.get(record.key) or self._locks.setdefault(record.key, trio.Lock())
        async with lock:  # whoever comes second finds it here
            if not (self._directory / record.key).is_dir():
                await self._fetch_and_unpack(found, record, layers, diff_ids, wanted.report)
            await trio.to_thread.run_sync(self._cache.used, record)
        return record.image(self._directory)

    async def _fetch_and_unpack(
        self, found: FoundImage, record: Record, layers: list[Descriptor], diff_ids: list[str], report: Report
    ) -> None:
        with ExitStack() as stack:
            needed = {layer.digest: layer.size for layer in layers}
            await trio.to_thread.run_sync(stack.enter_context, self._cache.room(sum(needed.values())))
            blobs = await _fetch_all(found, layers, report)
            for blob in blobs.values():
                stack.enter_context(blob)
            ordered = [(blobs[layer.digest], layer.media_type) for layer in layers]
            await trio.to_thread.run_sync(self._unpack, record, ordered, diff_ids)

    def _unpack(self, record: Record, layers: list[tuple[IO[bytes], str]], diff_ids: list[str]) -> None:
        root = self._directory / record.key
        with _lock(self._directory / ".lock"):
            if root.is_dir():
                return  # another process was faster
            unfinished = root.with_suffix(PARTIAL)
            if unfinished.exists():
                remove_tree(unfinished)
            unfinished.mkdir(mode=0o755)
            try:
                unpacker = Unpacker(unfinished, owner=self._owner, limit=self._cache.largest())
                for (blob, media_type), diff_id in zip(layers, diff_ids, strict=True):
                    blob.seek(0)
                    unpacker.apply(blob, media_type, diff_id)
                unpacker.finish()
                self._cache.used(record, tree_bytes(unfinished))
                unfinished.rename(root)
            except BaseException:
                remove_tree(unfinished)
                raise
        self._cache.make_room(0, keep=record.key)


async def _fetch_all(found: FoundImage, layers: list[Descriptor], report: Report) -> dict[str, IO[bytes]]:
    """Every layer by its digest, several at a time."""
    files: dict[str, IO[bytes]] = {}
    wanted = {layer.digest: layer for layer in layers}
    done = dict.fromkeys(wanted, 0)
    total = sum(layer.size for layer in wanted.values())
    streams = trio.CapacityLimiter(bounds.IMAGE_STREAMS)

    def heard(digest: str, here: int) -> None:
        done[digest] = here
        report(sum(done.values()), total)

    async def fetch(layer: Descriptor) -> None:
        async with streams:
            files[layer.digest] = await found.fetch(layer, lambda here: heard(layer.digest, here))

    try:
        await run_all(partial(fetch, layer) for layer in wanted.values())
    except BaseException:
        for file in files.values():
            file.close()
        raise
    return files


async def _document(found: FoundImage, blob: Descriptor) -> dict[str, Any]:
    if blob.size > bounds.IMAGE_MANIFEST_BYTES:
        raise Refused("image.limit", f"a {blob.media_type[:100]} of {blob.size} bytes")
    with await found.fetch(blob, lambda here: None) as file:
        return manifests.document(file.read(), blob.digest)


def _named(entry: Descriptor) -> Reference | None:
    try:
        return parse_reference(str(entry.annotations.get(REF_NAME, "")))
    except Refused:
        return None  # a name for other tools


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
