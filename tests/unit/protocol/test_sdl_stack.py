"""Quantities, prices, auditors, units: what an accepted file comes to."""

from __future__ import annotations

import pytest
from tests.support.workloads import SDL, key

from fondaco.protocol import addresses, limits, manifest
from fondaco.protocol.resources import EndpointKind
from fondaco.protocol.sdl import Mode, SdlError, Stack, parse
from fondaco.protocol.sdl.quantities import (
    Unreadable,
    cpu_milli,
    duration_ms,
    price,
    show_price,
    size_bytes,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1Ki", 1024),
        ("1k", 1000),
        ("1.5Gi", 3 * 2**29),
        ("1E", 10**18),
        ("1e3", 1000),
        ("512", 512),
        ("1e3Ki", 1024000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Gi", "1 Gi", "1GI", "nan", "inf", "1_0", "99999E", "0x10", "1e99999Gi", "9" * 70]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Unreadable):
        size_bytes(text)


def test_cpu_shares_are_truncated_as_doubles_are() -> None:
    assert [cpu_milli(text) for text in ("1.001", "0.1", "2.3", "100m", "4")] == [1000, 100, 2300, 100, 4000]


def test_prices_are_exact() -> None:
    assert price("0.1") * 10 == price("1")
    assert show_price(price("100.5")) == "100.500000000000000000"
    assert price(".5") == 5 * 10**17
    for wrong in ("", ".", "1.", "1e3", "1.0000000000000000001", "x", "1_0"):
        with pytest.raises(Unreadable):
            price(wrong)


def test_durations() -> None:
    assert [duration_ms(text) for text in ("1h", "1h30m", "1.5s", "250ms")] == [3_600_000, 5_400_000, 1_500, 250]
    for wrong in ("", "5", "h", "-1h", "0s", "1d"):
        with pytest.raises(Unreadable):
            duration_ms(wrong)


def priced(amount: str, more: str = "", count: int = 2) -> Stack:
    text = SDL.replace("amount: 1000", f"amount: {amount}{more}").replace("count: 2", f"count: {count}")
    return parse(text)


@pytest.mark.parametrize(
    ("amount", "count", "more", "expected"),
    [
        ("1000", 2, "", 1_200_000),
        ("0.001", 3, "", 1),
        ("0.0016", 1, "", 0),
        ("0.00166666666666667", 1, "", 1),
        ("1000", 2, "\n          per: hour", 2_000),
        ("0.3", 3, "\n          per: hour", 0),
    ],
)
def test_the_maximum_price_is_rounded_down_once(amount: str, count: int, more: str, expected: int) -> None:
    stack = priced(amount, more, count)
    if expected:
        (group,) = stack.groups({})
        assert group.max_price_per_hour == expected
        return
    with pytest.raises(SdlError) as caught:
        stack.groups({})
    assert caught.value.code == "sdl.price.too_small"


SIGNED = "      signedBy: {allOf: [%s], anyOf: [akash1abc]}\n      pricing:"


def test_auditors_are_found_by_alias_or_by_address() -> None:
    stack = parse(SDL.replace("      pricing:", SIGNED % addresses.encode(key(7))))
    (group,) = stack.groups({"akash1abc": key(8)})
    assert group.placement.all_of == (key(7),)
    assert group.placement.any_of == (key(8),)


def test_an_unknown_auditor_is_refused_before_anything_is_ordered() -> None:
    stack = parse(SDL.replace("      pricing:", SIGNED % "akash1zzz"))
    with pytest.raises(SdlError) as caught:
        stack.groups({"akash1abc": key(8)})
    (problem,) = caught.value.problems
    assert problem.code == "placement.unknown_auditor"
    assert problem.path == "profiles.placement.west.signedBy.allOf[0]"


FIVE_VOLUMES = "".join(f"        - {{name: v{n}, size: 1Gi}}\n" for n in range(5))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (SDL.replace("count: 2", "count: 51"), "resources.limit"),
        (SDL.replace("          size: 1Gi", FIVE_VOLUMES), "resources.limit"),
        (SDL + "reclamation: {min_window: 59m}\n", "reclamation.window"),
        (SDL + "reclamation: {min_window: 721h}\n", "reclamation.window"),
        (SDL + "reclamation: {min_window: 1h}\n", ""),
        (SDL + "reclamation: {min_window: 720h}\n", ""),
        (SDL.replace("nginx:1.27", "n" * 4 + "\n    args: [" + ", ".join(["x" * 60_000] * 3) + "]"), ""),
    ],
)
def test_limits_of_this_market_are_told_at_ordering(text: str, code: str) -> None:
    stack = parse(text)
    if not code:
        assert stack.groups({})
        return
    with pytest.raises(SdlError) as caught:
        stack.groups({})
    assert caught.value.problems[0].code == code


def test_more_groups_than_an_order_holds_are_refused() -> None:
    names = [f"p{n}" for n in range(limits.GROUPS + 1)]
    placements = "".join(f"    {name}: {{pricing: {{small: {{denom: uact, amount: 1}}}}}}\n" for name in names)
    deploys = "".join(f"    {name}: {{profile: small, count: 1}}\n" for name in names)
    head, tail = SDL.split("    west:\n      pricing:")
    text = head + placements + "deployment:\n  web:\n" + deploys
    assert tail
    with pytest.raises(SdlError, match="groups"):
        parse(text).groups({})


def test_a_price_in_a_foreign_coin_parses_but_cannot_be_ordered() -> None:
    stack = parse(SDL.replace("denom: uact", "denom: uatom"), mode=Mode.GO)
    with pytest.raises(SdlError) as caught:
        stack.groups({})
    assert caught.value.code == "sdl.price.denom"


API = "  api:\n    image: x\n    expose: [{port: 9000, to: [{global: true}]}]\n"
TWO = SDL.replace("profiles:", API + "profiles:").replace(
    "deployment:", "deployment:\n  api: {west: {profile: small, count: 3}}"
)


def test_version_2_0_has_a_unit_for_each_service() -> None:
    (group,) = parse(TWO).groups({})
    assert [(unit.id, unit.count) for unit in group.units] == [(1, 3), (2, 2)]


def test_version_2_1_pools_services_of_one_profile() -> None:
    stack = parse(TWO.replace('"2.0"', '"2.1"'))
    (group,) = stack.groups({})
    (unit,) = group.units
    assert unit.count == 5
    assert [endpoint.kind for endpoint in unit.resources.endpoints] == [
        EndpointKind.RANDOM_PORT,
        EndpointKind.SHARED_HTTP,
    ]
    manifest.check_against(group, stack.manifest[0])


def test_confidential_computing_becomes_an_attribute_of_the_placement() -> None:
    (group,) = parse(SDL.replace("nginx:1.27", "x\n    params: {tee: cpu}")).groups({})
    assert [(one.key, one.value) for one in group.placement.attributes] == [("tee/type", "cpu")]


def test_reclamation_and_permissions_are_carried() -> None:
    text = (
        SDL.replace("nginx:1.27", "x\n    params: {permissions: {read: [logs]}}")
        + "reclamation: {min_window: 24h}\n"
    )
    stack = parse(text)
    assert stack.reclamation_ms == 24 * 3_600_000
    assert b'"permissions":{"read":["logs"]}' in manifest.to_json(stack.manifest)


def test_nulls_vanish_from_lists_and_raw_text_stays() -> None:
    stack = parse(SDL.replace("nginx:1.27", "x\n    args: [0x10, ~, yes, 1.50]\n    command: []"), mode=Mode.GO)
    service = stack.manifest[0].services[0]
    assert service.args == ("0x10", "yes", "1.50")
    assert service.command == ()
    assert service.env is None


def test_a_mount_that_climbs_is_told_before_a_provider_refuses_it() -> None:
    stack = parse(SDL.replace("nginx:1.27", "x\n    params: {storage: {default: {mount: /data/../etc}}}"))
    with pytest.raises(SdlError) as caught:
        stack.groups({})
    assert caught.value.code == "sdl.manifest.invalid"


@pytest.mark.parametrize(("version", "email", "password"), [("2.0", "", " secret "), ("2.1", "me@x.y", "secret")])
def test_credentials_differ_between_the_versions(version: str, email: str, password: str) -> None:
    private = "{host: h, username: u, email: me@x.y, password: ' secret '}"
    text = SDL.replace("nginx:1.27", f"x\n    credentials: {private}").replace('"2.0"', f'"{version}"')
    credentials = parse(text).manifest[0].services[0].credentials
    assert credentials is not None
    assert (credentials.email, credentials.password) == (email, password)


def test_a_manifest_larger_than_the_wire_takes_is_told_at_ordering() -> None:
    stack = parse(SDL.replace("nginx:1.27", "x\n    args: ['" + "<" * 100_000 + "']"))
    with pytest.raises(SdlError) as caught:
        stack.groups({})
    assert caught.value.code == "sdl.manifest.size"
