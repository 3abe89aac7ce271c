"""Registries that lie, break off, flood or stall: what is pulled is right or refused, and the cost is bounded."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.integration.registry.conftest import StoreOf
from tests.support.made_images import MadeImage, digest_of, make_image
from tests.support.registries import Answer, StrangeRegistry, login

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.limits import MIB
from fondaco.provider.images.blobs import key_of
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.oci import ImageStore


@pytest.fixture
def big() -> MadeImage:
    """Its layer is larger than one chunk of a download, packed as it is."""
    noise = b"".join(digest_of(bytes([a, b])).encode() for a in range(256) for b in range(160))
    return make_image({"noise": noise})


async def refused(store: ImageStore, reference: str) -> str:
    with pytest.raises(Refused) as refusal:
        await store.prepare(reference)
    assert "\n" not in refusal.value.message
    return refusal.value.code


def kept(tmp_path: Path) -> set[str]:
    """Names of blobs and images on the disk, without the small documents."""
    images = tmp_path / "images"
    blobs = {path.name for path in (images / "blobs").glob("*") if path.stat().st_size > 100_000}
    return blobs | {path.name for path in images.iterdir() if path.is_dir() and path.name != "blobs"}


async def test_a_layer_with_other_content_is_refused_and_not_kept(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage, tmp_path: Path
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    content = big.blobs[layer]
    strange.when(layer, Answer(body=content[:-1] + bytes([content[-1] ^ 1])))
    assert await refused(store_of(strange.host), reference) == "image.digest"
    assert kept(tmp_path) == set()
    assert strange.count(layer) == 1  # a lie is not asked for again


async def test_a_manifest_that_is_not_the_one_its_digest_says_is_refused(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    image, other = make_image({"a": b"1"}), make_image({"a": b"2"})
    reference = strange.add(image)
    media_type, content = other.documents[other.digest]
    padded = content + b" " * (len(image.documents[image.digest][1]) - len(content))
    strange.when(f"manifests/{image.digest}", Answer(body=padded, headers={"Content-Type": media_type}))
    assert await refused(store_of(strange.host), reference) == "image.digest"
    # Also where it is asked for by digest, and the registry names another.
    pinned = f"{strange.host}/team/app@{image.digest}"
    strange.rules.append(lambda asked: Answer(headers={"Docker-Content-Digest": other.digest}))
    assert await refused(store_of(strange.host), pinned) == "image.digest"


async def test_a_download_that_breaks_off_goes_on_where_it_was(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    content = big.blobs[layer]
    assert len(content) > MIB + 1_000
    strange.when(layer, Answer(body=content[: MIB + 10], length=len(content)), times=1)
    await store_of(strange.host).prepare(reference)
    first, second = (asked.headers for asked in strange.asked if layer in asked.path)
    assert "range" not in first
    assert second["range"].startswith("bytes=10")


@pytest.mark.parametrize("lie", ["ignores the range", "gives another part"])
async def test_a_registry_that_does_not_go_on_is_asked_for_all_of_it(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage, lie: str
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    content = big.blobs[layer]
    part = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
    whole = Answer(body=content) if lie == "ignores the range" else Answer(status=206, body=content, headers=part)
    strange.when(layer, Answer(body=content[: MIB + 10], length=len(content)), whole)
    await store_of(strange.host).prepare(reference)
    assert strange.count(layer) == 2


async def test_parts_that_do_not_belong_together_are_noticed_and_all_of_it_fetched_anew(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    content = big.blobs[layer]
    strange.when(layer, Answer(body=bytes(MIB + 10), length=len(content)), times=1)
    await store_of(strange.host).prepare(reference)
    assert strange.count(layer) == 3  # the false start, what came after it, and all of it


async def test_a_registry_that_always_breaks_off_is_given_up(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    strange.when(layer, Answer(body=b"x", length=len(big.blobs[layer])))
    with pytest.raises(Unreachable, match=r"image\.unreachable"):
        await store_of(strange.host).prepare(reference)
    assert strange.count(layer) == bounds.REGISTRY_ATTEMPTS


async def test_a_body_without_end_is_cut_at_what_was_announced(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage, tmp_path: Path
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    strange.when(layer, Answer(body=bytes(65_536), length=-1, endless=True))
    with trio.fail_after(20):
        assert await refused(store_of(strange.host), reference) == "image.digest"
    assert kept(tmp_path) == set()


async def test_a_manifest_without_end_is_cut_at_its_limit(strange: StrangeRegistry, store_of: StoreOf) -> None:
    strange.rules.append(lambda asked: Answer() if asked.method == "HEAD" else None)  # has no digest to offer
    strange.when("/manifests/", Answer(body=b" " * 65_536, length=-1, endless=True))
    with trio.fail_after(20):
        assert await refused(store_of(strange.host), f"{strange.host}/team/app:1") == "image.limit"


@pytest.mark.parametrize(
    "head", [Answer(), Answer(status=405), Answer(headers={"Docker-Content-Digest": "md5:1"})]
)
async def test_a_registry_that_says_nothing_by_head_is_asked_for_the_manifest(
    strange: StrangeRegistry, store_of: StoreOf, head: Answer
) -> None:
    image = make_image()
    reference = strange.add(image)
    strange.rules.append(lambda asked: head if asked.method == "HEAD" else None)
    assert (await store_of(strange.host).prepare(reference)).digest == image.digest


@pytest.mark.parametrize("media_type", ["\u00fc/\ud800", "a\r\nAuthorization: b", "x" * 100_000])
async def test_what_a_manifest_says_goes_into_no_header_and_no_message_as_it_is(
    strange: StrangeRegistry, store_of: StoreOf, media_type: str
) -> None:
    image = make_image()
    manifest_type, content = image.documents[image.digest]
    manifest = json.loads(content)
    for part in (manifest["config"], *manifest["layers"]):
        part["mediaType"] = media_type
    changed = json.dumps(manifest).encode()
    documents = {digest_of(changed): (manifest_type, changed)}
    reference = strange.add(replace(image, digest=digest_of(changed), documents=documents))
    with pytest.raises(Refused, match=r"image\.unsupported") as refusal:
        await store_of(strange.host).prepare(reference)
    assert len(refusal.value.message.encode()) < 400
    assert all("authorization" not in asked.headers for asked in strange.asked)


async def test_documents_and_layers_that_claim_to_be_huge_are_not_even_asked_for(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    image = make_image()
    media_type, content = image.documents[image.digest]
    manifest = json.loads(content)
    for part, size in (
        (manifest["config"], 1 << 40),
        (manifest["layers"][0], 1 << 60),
        (manifest["layers"][0], -1),
    ):
        before, part["size"] = part["size"], size
        changed = json.dumps(manifest).encode()
        part["size"] = before
        made = MadeImage(
            digest=digest_of(changed),
            documents={digest_of(changed): (media_type, changed)},
            blobs=image.blobs,
            layers=image.layers,
        )
        reference = strange.add(made, tag=f"size{abs(size)}")
        assert await refused(store_of(strange.host), reference) in ("image.limit", "image.manifest")
    assert strange.count(image.layers[0]) == 0


async def test_a_registry_that_falls_silent_is_left(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "REGISTRY_READ_S", 0.05)
    reference, (layer,) = strange.add(big), big.layers
    strange.when(layer, Answer(body=b"x", length=len(big.blobs[layer]), stalls=True))
    with pytest.raises(Unreachable), trio.fail_after(20):
        await store_of(strange.host).prepare(reference)


async def test_a_registry_that_drips_is_left(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "REGISTRY_CHUNK_S", 0.1)
    reference, (layer,) = strange.add(big), big.layers
    strange.when(layer, Answer(body=b"x", length=len(big.blobs[layer]), drips_s=0.01))
    with pytest.raises(Unreachable, match=r"too slow"), trio.fail_after(20):
        await store_of(strange.host).prepare(reference)
    assert strange.count(layer) == bounds.REGISTRY_ATTEMPTS


async def test_an_image_that_does_not_come_in_its_time_is_left(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "IMAGE_PULL_TIMEOUT_S", 0.3)
    reference, (layer,) = strange.add(big), big.layers
    strange.when(layer, Answer(body=b"x", length=len(big.blobs[layer]), stalls=True))
    with pytest.raises(Unreachable, match=r"did not come in"):
        await store_of(strange.host).prepare(reference)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_registry_that_is_busy_is_asked_again_after_a_pause(
    strange: StrangeRegistry, store_of: StoreOf, status: int
) -> None:
    image = make_image()
    reference = strange.add(image)
    busy = Answer(status=status, headers={"Retry-After": "1"})  # longer than the longest pause there is
    for part in ("/manifests/", image.layers[0]):
        strange.when(part, busy, times=2)
    with trio.fail_after(20):
        await store_of(strange.host).prepare(reference)
    assert strange.count(image.layers[0]) == 3


async def test_so_many_layers_and_so_many_images_are_fetched_at_once_and_no_more(
    strange: StrangeRegistry, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange.when("/blobs/", lambda asked: replace(strange.honest(asked), pause_s=0.05))
    layered = make_image(*({f"f{number}": b"x"} for number in range(8)))
    await store_of(strange.host).prepare(strange.add(layered))
    assert strange.most_at_once == bounds.IMAGE_STREAMS
    monkeypatch.setattr(bounds, "IMAGE_PULLS", 2)
    store, strange.most_at_once = store_of(strange.host), 0
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(store.prepare, strange.add(make_image({f"g{number}": b"x"}), tag=f"g{number}"))
    assert strange.most_at_once == 2


async def test_a_registry_that_stays_busy_is_unreachable_and_asked_a_bounded_number_of_times(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    strange.rules.append(lambda asked: Answer(status=429))
    with pytest.raises(Unreachable, match=r"429"):
        await store_of(strange.host).prepare(f"{strange.host}/team/app:1")
    assert len(strange.asked) == bounds.REGISTRY_ATTEMPTS


def zeros(size: int) -> MadeImage:
    return make_image(b"".join((make_header(size), bytes(size))))


def make_header(size: int) -> bytes:
    member = tarfile.TarInfo("zeros")
    member.size = size
    return member.tobuf()


@pytest.mark.parametrize("make", [zeros, lambda size: make_image(bytes(size)), lambda size: two_of(size // 2)])
async def test_a_bomb_is_refused_before_it_has_filled_the_disk(
    strange: StrangeRegistry,
    store_of: StoreOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int], MadeImage],
) -> None:
    monkeypatch.setattr(bounds, "IMAGE_UNPACKED_BYTES", 4 * MIB)
    image = make(6 * MIB)
    reference = strange.add(image)
    assert sum(map(len, image.blobs.values())) < 100_000
    code = await refused(store_of(strange.host), reference)
    assert code == "image.limit"
    assert kept(tmp_path) == set()


def two_of(size: int) -> MadeImage:
    half = make_header(size) + bytes(size)
    return make_image(half, half + bytes(512))


async def test_an_image_that_does_not_fit_beside_what_is_in_use_is_refused_before_it_is_fetched(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage
) -> None:
    assert await refused(store_of(strange.host, cap_bytes=100_000), strange.add(big)) == "image.room"
    assert strange.count(big.layers[0]) == 0


async def test_naming_anothers_private_layer_in_an_image_of_ones_own_does_not_open_it(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    """Digests are no secrets: whoever knows one must still be given the bytes by a registry."""
    private = make_image({"secret": b"1" * 100})
    reference = strange.add(private, name="victim/private")
    store = store_of(strange.host)
    await store.prepare(reference, login=login(strange.host))
    strange.add(private, name="thief/app")
    for blob in private.blobs:
        del strange._paths[f"/v2/thief/app/blobs/{blob}"]
    for thief in (None, login(strange.host, "thief")):
        with pytest.raises(Refused, match=r"image\.not_found"):
            await store.prepare(f"{strange.host}/thief/app:1", login=thief)
    assert key_of(private.digest, "") != key_of(private.digest, f"{strange.host}/victim/private")


async def test_a_pull_that_is_cancelled_leaves_the_rest_to_the_next(
    strange: StrangeRegistry, store_of: StoreOf, big: MadeImage
) -> None:
    reference, (layer,) = strange.add(big), big.layers
    content = big.blobs[layer]
    begun = trio.Event()
    strange.when(layer, Answer(body=content[: MIB + 10], length=len(content), stalls=True), times=1)
    store = store_of(strange.host)

    def report(done: int, total: int) -> None:
        begun.set()

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def impatient() -> None:
            with first:
                await store.prepare(reference, report=report)

        nursery.start_soon(impatient)
        await begun.wait()
        nursery.start_soon(store.prepare, reference)  # waits for the first, which is not done yet
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert strange.count(layer) == 1
        first.cancel()
    assert strange.count(layer) == 2
    assert strange.asked[-1].headers["range"].startswith("bytes=10")


async def test_a_blob_that_rotted_on_the_disk_is_fetched_again(
    strange: StrangeRegistry, store_of: StoreOf, tmp_path: Path
) -> None:
    image = make_image()
    reference, (layer,) = strange.add(image), image.layers
    store = store_of(strange.host)
    first = await store.prepare(reference)
    blob = tmp_path / "images" / "blobs" / key_of(layer, "")
    blob.write_bytes(b"x" * blob.stat().st_size)
    Path(first.rootfs).rename(tmp_path / "elsewhere")
    assert await store.prepare(reference) == first
    assert strange.count(layer) == 2
