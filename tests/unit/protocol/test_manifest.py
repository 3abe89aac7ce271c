"""Manifests: canonical bytes, commitments, and what is judged before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.workloads import SDL, gpu, volume

from fondaco.protocol import limits, manifest, sdl
from fondaco.protocol.errors import Malformed, Refused
from fondaco.protocol.manifest import (
    Expose,
    HttpOptions,
    ManifestGroup,
    Permissions,
    Service,
    ServiceParams,
    Tee,
    VolumeMount,
)
from fondaco.protocol.scalars import BlindingSalt

STACK = sdl.parse(SDL)
(GROUP,) = STACK.manifest
(SERVICE,) = GROUP.services
(LEASED,) = STACK.groups({})


def with_service(**changes: Any) -> ManifestGroup:
    return replace(GROUP, services=(replace(SERVICE, **changes),))


def rewritten(old: str, new: str) -> bytes:
    text = manifest.group_to_json(GROUP).decode()
    assert old in text
    return text.replace(old, new, 1).encode()


def test_canonical_bytes_escape_as_go_does_and_leave_other_text_raw() -> None:
    text = manifest.canonical({"b": "<&>\u2028\u2029é\n", "a": None}).decode()
    assert text == '{"a":null,"b":"\\u003c\\u0026\\u003e\\u2028\\u2029é\\n"}'
    assert manifest.canonical("<", escape=False) == b'"<"'


def test_a_group_survives_the_way_to_its_provider() -> None:
    assert manifest.parse_group(manifest.group_to_json(GROUP)) == GROUP
    assert manifest.parse(manifest.to_json(STACK.manifest)) == STACK.manifest


def test_every_parameter_survives_too() -> None:
    tee = Tee(kind="cpu", attestation=True)
    for read in ((), ("logs",)):
        params = replace(mounts(("default", "/d")), permissions=Permissions(read=read), tee=tee)
        group = with_service(params=params, env=())
        assert manifest.parse_group(manifest.group_to_json(group)) == group
    odd = HttpOptions(next_cases=(), proxy_buffer_size=7)
    group = with_service(expose=(Expose(port=1, http_options=odd),))
    assert manifest.parse_group(manifest.group_to_json(group)) == group


def test_the_version_is_the_hash_of_the_whole() -> None:
    assert manifest.version_hash(STACK.manifest) == STACK.version_hash
    assert manifest.version_hash((with_service(image="other"),)) != STACK.version_hash


def test_a_commitment_hides_behind_its_salt_and_binds_the_group() -> None:
    one, other = BlindingSalt(bytes(32)), BlindingSalt(b"\1" * 32)
    assert manifest.commitment(one, GROUP) != manifest.commitment(other, GROUP)
    assert manifest.commitment(one, GROUP) != manifest.commitment(one, with_service(image="other"))
    assert manifest.commitment(one, GROUP) == manifest.commitment(one, replace(GROUP))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        rewritten('"count":2', '"count":2.0'),
        rewritten('"count":2', '"count":NaN'),
        rewritten('"count":2', '"count":-2'),
        rewritten('"count":2', '"count":true'),
        rewritten('"count":2', '"count":' + "9" * 5_000),
        rewritten('"count":2', '"count":2,"more":1'),
        rewritten('"image":"nginx:1.27"', '"image":5'),
        rewritten('"image":"nginx:1.27"', '"image":"\\ud800"'),
        rewritten('"args":null', '"args":"sh"'),
        rewritten('"args":null', '"args":[1]'),
        rewritten('"val":"500"', '"val":"-500"'),
        rewritten('"val":"500"', '"val":"0x1"'),
        rewritten('"val":"500"', '"val":"99999999999999999999"'),
        rewritten('"global":true', '"global":1'),
        rewritten('{"sequence_number":0}', '{"kind":3,"sequence_number":0}'),
        rewritten('"args":null', '"args":[' + ",".join(['""'] * 60_000) + "]"),
    ],
)
def test_bytes_that_are_no_manifest_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        manifest.parse_group(data)
    assert caught.value.code == "manifest.malformed"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"count":2', '"count": 2'),
        ('"val":"500"', '"val":"0500"'),
        ('{"sequence_number":0}', '{"kind":0,"sequence_number":0}'),
        ('"name":"west"', '"name":"west","name":"west"'),
        ("nginx", "\\u006eginx"),
    ],
)
def test_another_spelling_of_the_same_manifest_is_refused(old: str, new: str) -> None:
    with pytest.raises(Malformed) as caught:
        manifest.parse_group(rewritten(old, new))
    assert caught.value.code == "manifest.not_canonical"


def test_a_manifest_has_a_size() -> None:
    with pytest.raises(Malformed) as caught:
        manifest.parse(b" " * (limits.MANIFEST_BYTES + 1))
    assert caught.value.code == "manifest.size"


def test_the_manifest_of_an_honest_tenant_fits_its_lease() -> None:
    manifest.check_against(LEASED, GROUP)
    manifest.check_manifest(STACK.manifest)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"count": 3}, "3 replicas in the manifest, 2 leased"),
        ({"count": 1}, "1 replicas in the manifest, 2 leased"),
        ({"resource_id": 2}, "were not leased"),
        ({"resources": replace(SERVICE.resources, cpu_milli=501)}, "cpu_milli: asked 501, available 500"),
        ({"resources": replace(SERVICE.resources, volumes=(volume("more"),))}, "volume more: asked"),
        ({"expose": ()}, "0 SHARED_HTTP endpoints"),
        ({"expose": (*SERVICE.expose, Expose(port=81, is_global=True))}, "1 RANDOM_PORT endpoints"),
        ({"expose": (replace(SERVICE.expose[0], ip="mine"),)}, "1 LEASED_IP endpoints"),
    ],
)
def test_a_manifest_may_use_only_what_was_leased(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told) as caught:
        manifest.check_against(LEASED, with_service(**changes))
    assert caught.value.code == "manifest.mismatch"


def test_a_lease_may_be_better_than_what_was_asked() -> None:
    asked = replace(SERVICE.resources, gpu_units=1, gpu_attributes=gpu("h100", "t4"))
    (unit,) = LEASED.units
    for models, fits in ((gpu("h100/ram/80Gi"), True), (gpu("a100"), False)):
        better = replace(unit.resources, cpu_milli=9_000, gpu_units=1, gpu_attributes=models)
        leased = replace(LEASED, units=(replace(unit, resources=better),))
        if fits:
            manifest.check_against(leased, with_service(resources=asked))
            continue
        with pytest.raises(Refused, match="gpu model"):
            manifest.check_against(leased, with_service(resources=asked))


def test_a_manifest_of_another_group_is_a_mismatch() -> None:
    with pytest.raises(Refused, match="leased is 'west'"):
        manifest.check_against(LEASED, replace(GROUP, name="east"))


def mounts(*pairs: tuple[str, str]) -> ServiceParams:
    storage = tuple(VolumeMount(name=name, mount=mount, read_only=False) for name, mount in pairs)
    return ServiceParams(storage=storage, permissions=None, tee=None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "Web"}, "no service name"),
        ({"image": ""}, "has no image"),
        ({"env": ("=x",)}, "environment variable"),
        ({"env": ("..=x",)}, "environment variable"),
        ({"expose": (Expose(port=0),)}, "out of range"),
        ({"expose": (Expose(port=80, external_port=65_536),)}, "out of range"),
        ({"expose": (Expose(port=80, proto="SCTP"),)}, "neither TCP nor UDP"),
        ({"expose": (Expose(port=80, hosts=("a_b",)),)}, "no host name"),
        ({"expose": (Expose(port=80, hosts=("a.b", "a.b")),)}, "claimed twice"),
        ({"params": mounts(("data", "/d"))}, "none of its volumes"),
        ({"params": mounts(("default", "d"))}, "plain absolute path"),
        ({"params": mounts(("default", "/a/../../etc"))}, "plain absolute path"),
        ({"params": mounts(("default", "/d"), ("default", "/d"))}, "at one place"),
    ],
)
def test_what_an_sdl_file_could_not_say_is_refused_from_a_peer_too(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told) as caught:
        manifest.check_group_manifest(with_service(**changes))
    assert caught.value.code == "manifest.invalid"


def service(name: str) -> Service:
    return replace(SERVICE, name=name)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ((GROUP, GROUP), "share a name"),
        ((replace(GROUP, services=()),), "no services"),
        ((replace(GROUP, services=(service("b"), service("a"))),), "sorted"),
        ((with_service(expose=()),), "open to the world"),
    ],
)
def test_a_whole_manifest_is_judged(groups: tuple[ManifestGroup, ...], told: str) -> None:
    with pytest.raises(Refused, match=told):
        manifest.check_manifest(groups)


def test_an_address_of_its_own_comes_with_the_port() -> None:
    leased = Expose(port=53, proto="UDP", is_global=True, ip="mine", endpoint_sequence_number=2)
    assert [(int(one.kind), one.sequence_number) for one in leased.endpoints] == [(1, 0), (2, 2)]
    assert Expose(port=53).endpoints == ()
