"""Pulling: from a reference to verified blobs, by way of a registry.

A blob is downloaded once, however many ask for it: the second waits for the first and finds it here, or goes on
where the first one left off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import IO
from weakref import WeakValueDictionary

import httpx
import trio

from fondaco.protocol.errors import Refused
from fondaco.provider.images.blobs import BlobStore, Partial, key_of
from fondaco.provider.images.manifests import INDEX_TYPES, MANIFEST_TYPES, Descriptor, digest_of
from fondaco.provider.images.references import DIGEST, Reference
from fondaco.provider.images.registries import Login, Registries
from fondaco.provider.images.session import RegistrySession, TryAgain, persistently
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.oci import FoundImage, Wanted

ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
BUSY_S = 0.05
"""Between looks at a blob that another process downloads."""


class RegistrySource:
    """Images from the registries that an operator lets in, their blobs kept in `blobs`.  An `ImageSource`."""

    def __init__(self, registries: Registries, blobs: BlobStore) -> None:
        self._registries = registries
        self._blobs = blobs
        self._pulls = trio.CapacityLimiter(bounds.IMAGE_PULLS)
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def open(self, wanted: Wanted) -> AsyncIterator[FoundImage | None]:
        """Raises what `RegistrySession.open` does, and `Refused` `image.registry`."""
        self._registries.admit(wanted.reference)
        login = self._registries.login_for(wanted.reference, wanted.login)
        scope = wanted.reference.name if login is not None and login == wanted.login else ""
        async with self._pulls, RegistrySession(self._registries, wanted.reference, login) as session:
            descriptor = await persistently(partial(_resolve, session, wanted.reference))
            yield _Pull(session, descriptor, scope, self._blobs, self._lock)

    def _lock(self, key: str) -> trio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = trio.Lock()
        return lock


class _Pull:
    """One image at its registry.  A `FoundImage`."""

    def __init__(
        self,
        session: RegistrySession,
        descriptor: Descriptor,
        scope: str,
        blobs: BlobStore,
        lock: Callable[[str], trio.Lock],
    ) -> None:
        self.descriptor = descriptor
        self.scope = scope
        self._session = session
        self._blobs = blobs
        self._lock = lock

    async def fetch(self, blob: Descriptor, report: Callable[[int], None]) -> IO[bytes]:
        key = key_of(blob.digest, self.scope)
        while True:
            async with self._lock(key):
                found = await trio.to_thread.run_sync(self._blobs.open, key, blob.digest, blob.size)
                if found is not None:
                    report(blob.size)
                    return found
                try:
                    with self._blobs.partial(key, blob.digest, blob.size) as download:
                        await persistently(partial(self._download, blob, download, report))
                except BlockingIOError:
                    await trio.sleep(BUSY_S)
                except OSError as error:
                    raise Refused(
                        "image.disk", f"blob {blob.digest} cannot be written: {error.strerror}"
                    ) from None

    async def _download(self, blob: Descriptor, download: Partial, report: Callable[[int], None]) -> None:
        """Raises `TryAgain` with what has come so far kept."""
        await trio.to_thread.run_sync(download.resume)
        kept = download.done
        kind = "manifests" if blob.media_type in (*INDEX_TYPES, *MANIFEST_TYPES) else "blobs"
        try:
            if not download.whole:
                await self._stream(f"{kind}/{blob.digest}", blob, download, report)
            if not download.whole:
                raise TryAgain(f"blob {blob.digest} ends after {download.done} of {blob.size} bytes")
        except (TryAgain, trio.Cancelled):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(download.flush)
            raise
        except Refused as refusal:
            if refusal.code == "image.digest":
                download.discard()
            raise
        if not download.matches():
            if kept:  # it may be what was left from an earlier attempt that is wrong
                download.restart()
                await trio.to_thread.run_sync(download.flush)
                raise TryAgain(f"blob {blob.digest} came in parts that do not belong together")
            download.discard()
            raise Refused("image.digest", f"blob {blob.digest} has other content than its digest says")
        await trio.to_thread.run_sync(download.finish)

    async def _stream(self, what: str, blob: Descriptor, download: Partial, report: Callable[[int], None]) -> None:
        headers = {"Accept": f"{ACCEPT}, */*"}
        if download.done:
            headers["Range"] = f"bytes={download.done}-"
        async with self._session.open("GET", what, **headers) as answer:
            said = answer.headers.get("content-range", "")
            if answer.status == 200 or not said.startswith(f"bytes {download.done}-"):
                download.restart()
            if answer.status == 206 and not download.done and not said.startswith("bytes 0-"):
                raise Refused("image.answer", f"blob {blob.digest}: a part came that was not asked for")
            while chunk := await answer.chunk():
                await trio.to_thread.run_sync(download.write, chunk)
                report(download.done)


async def resolve(registries: Registries, reference: Reference, given: Login | None) -> str:
    """The digest of what `reference` names now, where somebody else is to pull it.

    Raises what `RegistrySession.open` does, and `Refused` `image.registry`.
    """
    registries.admit(reference)
    login = registries.login_for(reference, given)
    async with RegistrySession(registries, reference, login) as session:
        return (await persistently(partial(_resolve, session, reference))).digest


async def _resolve(session: RegistrySession, reference: Reference) -> Descriptor:
    """What `reference` names now.  The registry's word for it counts as little as that of its blobs: see `fetch`.

    It is asked for the headers first: that costs nothing where whole manifests are counted, as at Docker Hub.
    """
    what = f"manifests/{reference.digest or reference.tag}"
    try:
        headers, _ = await session.read("HEAD", what, 0, Accept=ACCEPT)
    except Refused as refusal:
        if refusal.code != "image.answer":
            raise
        headers = httpx.Headers()  # it does not know HEAD
    digest, length = headers.get("docker-content-digest", ""), headers.get("content-length", "")
    if (
        DIGEST.fullmatch(digest) is None
        or not (length.isascii() and length.isdigit())
        or "content-type" not in headers
    ):
        headers, body = await session.read("GET", what, bounds.IMAGE_MANIFEST_BYTES, Accept=ACCEPT)
        digest, length = digest_of(body), str(len(body))
    if reference.digest and digest != reference.digest:
        raise Refused("image.digest", f"{reference.host} answers with {digest} when asked for {reference}")
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    return Descriptor(media_type=media_type, digest=digest, size=int(length), annotations={}, platform={})
