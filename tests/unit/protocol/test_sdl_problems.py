"""What an author is told: each flaw by its code, path and line, with something to do about it."""

from __future__ import annotations

import pytest
from tests.support.workloads import SDL

from fondaco.protocol.sdl import Mode, Problem, SdlError, parse
from fondaco.protocol.sdl.problems import nearest, show_path

ENDPOINTS = "endpoints:\n  myip: {kind: ip}\n"
GPU = "        gpu: {units: 1, attributes: {vendor: {nvidia: [{model: h100}]}}}\n        storage:\n"
COMPUTE = "profiles.compute.small.resources"
EXPOSE = "services.web.expose[0]"
PRICE = "profiles.placement.west.pricing.small"
SIZE = "          size: 1Gi"
IMAGE = "    image: nginx:1.27"
VOLUME = SIZE + "\n          attributes: "
PARAMS = "    image: x\n    params: "
HTTP = "port: 80\n        http_options: "
BIG = "{cpu: {units: 1}, memory: {size: 1Gi}, storage: {size: 1Gi}}"
CREDENTIALS = "    credentials: {host: h, username: u, password: secret}\n    image: nginx:1.27"


def problems(text: str, mode: Mode = Mode.STRICT) -> tuple[Problem, ...]:
    with pytest.raises(SdlError) as caught:
        parse(text, mode=mode)
    return caught.value.problems


def edited(*edits: tuple[str, str]) -> str:
    text = SDL
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def test_the_smallest_file_is_accepted_without_a_word() -> None:
    assert parse(SDL).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "code", "path"),
    [
        ("512Mi", "512mi", "size.suffix", f"{COMPUTE}.memory.size"),
        ("512Mi", "4GB", "size.suffix", f"{COMPUTE}.memory.size"),
        ("512Mi", "lots", "size.suffix", f"{COMPUTE}.memory.size"),
        ("512Mi", "-1Gi", "size.suffix", f"{COMPUTE}.memory.size"),
        ("512Mi", "1Ki", "resources.limit", f"{COMPUTE}.memory.size"),
        ("512Mi", "3Ti", "resources.limit", f"{COMPUTE}.memory.size"),
        ("500m", "5m", "resources.limit", f"{COMPUTE}.cpu.units"),
        ("500m", "1.5m", "cpu.units", f"{COMPUTE}.cpu.units"),
        ("500m", "{}", "type", f"{COMPUTE}.cpu.units"),
        (SIZE, "          size: 1Mi", "resources.limit", f"{COMPUTE}.storage.size"),
        (
            "        storage:\n          size: 1Gi",
            "        storage: []",
            "resources.missing",
            f"{COMPUTE}.storage",
        ),
        ("        memory:\n          size: 512Mi\n", "", "resources.missing", f"{COMPUTE}.memory"),
        (IMAGE, "    imgae: nginx", "service.image", "services.web.image"),
        (IMAGE, "    image: ''", "service.image", "services.web.image"),
        (IMAGE, "    image: x\n    env: ['=1']", "service.env", "services.web.env[0]"),
        (IMAGE, "    image: x\n    command: sleep", "type", "services.web.command"),
        (IMAGE, "    image: x\n    image: y", "key.duplicate", "services.web.image"),
        (IMAGE, "    image: [x]", "type", "services.web.image"),
        (
            IMAGE,
            CREDENTIALS.replace("host: h", "host: ' '"),
            "credentials.missing",
            "services.web.credentials.host",
        ),
        ("port: 80", "port: 0", "expose.port", f"{EXPOSE}.port"),
        ("port: 80", "port: 70000", "expose.port", f"{EXPOSE}.port"),
        ("port: 80", 'port: "80"', "type", f"{EXPOSE}.port"),
        ("port: 80", "port: -80", "type", f"{EXPOSE}.port"),
        ("port: 80", "port: 80\n        proto: SCTP", "expose.proto", f"{EXPOSE}.proto"),
        ("port: 80", "port: 80\n        accept: [NO_HOST]", "expose.host", f"{EXPOSE}.accept[0]"),
        ("port: 80", "port: 80\n        accept: [a.b, a.b]", "expose.host", f"{EXPOSE}.accept[1]"),
        ("port: 80", HTTP + "{read_timeout: 60001}", "expose.http_options", f"{EXPOSE}.http_options.read_timeout"),
        (
            "port: 80",
            HTTP + "{next_cases: [off, error]}",
            "expose.http_options",
            f"{EXPOSE}.http_options.next_cases",
        ),
        ("port: 80", HTTP + "{next_cases: ['418']}", "expose.http_options", f"{EXPOSE}.http_options.next_cases"),
        ("global: true", "global: maybe", "type", f"{EXPOSE}.to[0].global"),
        ("global: true", 'global: "true"', "type", f"{EXPOSE}.to[0].global"),
        ("global: true", "service: web", "expose.no_global", "services"),
        ("global: true", "global: true\n            ip: myip", "endpoint.unknown", f"{EXPOSE}.to[0].ip"),
        ('version: "2.0"', 'version: "1.0"', "version.unknown", "version"),
        ('version: "2.0"\n', "", "version.missing", "version"),
        ('version: "2.0"', "version: '2.0'\nservice: {}", "key.unknown", "service"),
        ('version: "2.0"', "version: '2.0'\nversion: '2.0'", "key.duplicate", "version"),
        ('version: "2.0"', "version: '2.0'\n" + ENDPOINTS, "endpoint.unused", "endpoints.myip"),
        ('version: "2.0"', "version: '2.0'\nendpoints: {Bad: {kind: ip}}", "endpoint.name", "endpoints.Bad"),
        (
            'version: "2.0"',
            "version: '2.0'\nendpoints: {good: {kind: dns}}",
            "endpoint.kind",
            "endpoints.good.kind",
        ),
        (
            'version: "2.0"',
            "version: '2.0'\nreclamation: {min_window: soon}",
            "reclamation.window",
            "reclamation.min_window",
        ),
        ('version: "2.0"', "version: '2.0'\nreclamation: {}", "reclamation.window", "reclamation.min_window"),
        (
            'version: "2.0"',
            "version: '2.0'\nreclamation: {min_window: 0h}",
            "reclamation.window",
            "reclamation.min_window",
        ),
        ('version: "2.0"', "version: '2.0'\ninclude: 5", "type", "include"),
        ("deployment:\n  web:\n", "deployment:\n  wbe:\n", "reference.service", "deployment.wbe"),
        ("    west:\n      profile", "    east:\n      profile", "reference.placement", "deployment.web.east"),
        ("profile: small", "profile: smal", "reference.profile", "deployment.web.west.profile"),
        ("      pricing:\n        small:", "      pricing:\n        big:", "reference.pricing", PRICE),
        ("port: 80", "port: 1e20", "type", f"{EXPOSE}.port"),
        ("port: 80", "port: .nan", "type", f"{EXPOSE}.port"),
        ("        cpu:\n          units: 500m\n", "", "resources.missing", f"{COMPUTE}.cpu"),
        (
            "        storage:\n          size: 1Gi",
            "        storage: 1Gi",
            "resources.missing",
            f"{COMPUTE}.storage",
        ),
        (
            "profiles:",
            "  idle:\n    image: x\n    expose: [{port: 1, to: [{ip: a}]}]\nprofiles:",
            "combination",
            "services.idle.expose[0].to[0]",
        ),
        (
            "        storage:\n",
            GPU.replace("{nvidia: [{model: h100}]}", "{}"),
            "key.missing",
            f"{COMPUTE}.gpu.attributes.vendor",
        ),
        ("count: 2", "count: 50000", "resources.limit", "profiles.placement.west"),
        ("    image: nginx:1.27", "    image: x\n    dependencies: 5", "type", "services.web.dependencies"),
        ("    image: nginx:1.27", "    image: x\n    dependencies: [5]", "type", "services.web.dependencies[0]"),
        (
            "      pricing:",
            "      signedBy: {allOf: 5}\n      pricing:",
            "type",
            "profiles.placement.west.signedBy.allOf",
        ),
        (
            "        small:\n          denom: uact\n          amount: 1000",
            "        small:",
            "reference.pricing",
            PRICE,
        ),
        ("    west:\n      pricing", "    '':\n      pricing", "reference.placement", "deployment.web.west"),
        ("count: 2", "count: 0", "deployment.count", "deployment.web.west.count"),
        ("denom: uact", "denom: ''", "price.denom", f"{PRICE}.denom"),
        ("amount: 1000", "amount: 0", "price.amount", f"{PRICE}.amount"),
        ("amount: 1000", "amount: -5", "price.amount", f"{PRICE}.amount"),
        ("amount: 1000", "amount: 1e3", "price.amount", f"{PRICE}.amount"),
        ("amount: 1000", "amount: 10000001", "price.too_large", f"{PRICE}.amount"),
        ("amount: 1000", "amount: 1000\n          per: day", "price.per", f"{PRICE}.per"),
        (
            "        storage:\n",
            GPU.replace("{model: h100}", "{model: a b}"),
            "gpu.model",
            f"{COMPUTE}.gpu.attributes.vendor.nvidia",
        ),
        (
            "        storage:\n",
            GPU.replace("{model: h100}", "{model: h100}, {model: h100}"),
            "gpu.model",
            f"{COMPUTE}.gpu.attributes.vendor.nvidia",
        ),
        (
            "        storage:\n",
            GPU.replace("model: h100", "model: h100, interface: nvlink"),
            "gpu.interface",
            f"{COMPUTE}.gpu.attributes.vendor.nvidia[0].interface",
        ),
        (
            "        storage:\n",
            GPU.replace("model: h100", "model: h100, ram: 80G"),
            "size.suffix",
            f"{COMPUTE}.gpu.attributes.vendor.nvidia[0].ram",
        ),
        ("        storage:\n", GPU.replace("units: 1", "units: 0"), "gpu.attributes", f"{COMPUTE}.gpu.units"),
        ("        storage:\n", GPU.replace("units: 1", "units: some"), "gpu.units", f"{COMPUTE}.gpu.units"),
        ("        storage:\n", "        gpu: {units: 1}\n        storage:\n", "gpu.attributes", f"{COMPUTE}.gpu"),
        (
            "        storage:\n",
            "        gpu: {units: 1, attributes: {}}\n        storage:\n",
            "gpu.attributes",
            f"{COMPUTE}.gpu.attributes",
        ),
        ("        storage:\n", "        gpu: {unit: 1}\n        storage:\n", "key.unknown", f"{COMPUTE}.gpu.unit"),
        ("        storage:\n", "        gpu: []\n        storage:\n", "type", f"{COMPUTE}.gpu"),
        (SIZE, "        - {size: 1Gi}\n        - {size: 2Gi}", "storage.duplicate", f"{COMPUTE}.storage[1]"),
        (SIZE, VOLUME + "{class: beta9, persistent: true}", "storage.class", f"{COMPUTE}.storage.attributes"),
        (SIZE, VOLUME + "{class: beta2, persistent: false}", "storage.class", f"{COMPUTE}.storage.attributes"),
        (SIZE, VOLUME + "{class: ram, persistent: true}", "storage.ram", f"{COMPUTE}.storage.attributes"),
        (SIZE, VOLUME + "{persistent: 3}", "storage.persistent", f"{COMPUTE}.storage.attributes"),
        (SIZE, VOLUME + "{speed: high}", "key.unknown", f"{COMPUTE}.storage.attributes"),
        (SIZE, VOLUME + "{class: default, persistent: true}", "storage.mount", f"{COMPUTE}.storage"),
        (
            IMAGE,
            PARAMS + "{storage: {data: {mount: /data}}}",
            "storage.unknown",
            "services.web.params.storage.data",
        ),
        (
            IMAGE,
            PARAMS + "{storage: {default: {mount: data}}}",
            "storage.mount",
            "services.web.params.storage.default.mount",
        ),
        (IMAGE, PARAMS + "{tee: sgx}", "tee.kind", "services.web.params.tee"),
        (IMAGE, PARAMS + "{tee: cpu-gpu}", "tee.gpu", "services.web.params.tee"),
        ("services:\n  web:", "services:\n  Web:", "reference.service", "deployment.web"),
        ("services:\n  web:", "services:\n  ? [web]\n  :", "type", "services."),
    ],
)
def test_each_flaw_has_its_code_and_its_place(old: str, new: str, code: str, path: str) -> None:
    found = problems(edited((old, new)))
    assert (code, path) in [(problem.code, problem.path) for problem in found]
    # The semantic layer alone finds it as well, or the structure layer is the one that minds.
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in found)


@pytest.mark.parametrize(
    ("old", "new", "suggestion"),
    [
        ("512Mi", "512mi", "write 512Mi"),
        ("512Mi", "4GB", "write 4Gi"),
        ("profile: small", "profile: smal", "did you mean 'small'?"),
        ("port: 80", "ports: 80", "did you mean 'port'?"),
        ('version: "2.0"', "version: 2.0", 'write version: "2.0"'),
        ("512Mi", "536870912", 'put it in quotes: "536870912"'),
        ("deployment:\n  web:\n", "deployment:\n  webs:\n", "did you mean 'web'?"),
    ],
)
def test_the_author_is_told_what_to_write(old: str, new: str, suggestion: str) -> None:
    assert suggestion in [problem.suggestion for problem in problems(edited((old, new)))]


def test_several_flaws_are_found_in_one_pass_and_listed_by_line() -> None:
    found = problems(edited(("port: 80", "port: 0"), ("512Mi", "512mi"), ("amount: 1000", "amount: 0")))
    assert [problem.code for problem in found] == ["expose.port", "size.suffix", "price.amount"]
    assert [problem.line for problem in found] == [6, 16, 24]


def test_the_place_is_the_value_itself_where_yaml_tells() -> None:
    (problem,) = problems(edited(("512Mi", "512mi")))
    line = SDL.splitlines()[problem.line - 1]
    assert line[problem.column - 1 :] == "512Mi"
    assert str(problem).startswith("16:17: profiles.compute.small.resources.memory.size: ")


def test_an_error_reads_as_one_line_with_a_stable_code() -> None:
    with pytest.raises(SdlError, match=r"sdl\.expose\.port: .* and 1 more") as caught:
        parse(edited(("port: 80", "port: 0"), ("512Mi", "512mi")))
    assert caught.value.code == "sdl.expose.port"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("port: 80", "port: 80\n        colour: red", f"{EXPOSE}.colour"),
        ('version: "2.0"', "version: 2.0", "version"),
        ("global: true", "global: yes", f"{EXPOSE}.to[0].global"),
        ("      pricing:\n", "      attributes:\n      pricing:\n", "profiles.placement.west.attributes"),
        ("denom: uact", "denom: uatom", f"{PRICE}.denom"),
        (IMAGE, "    image: x\n    args: [1]", "services.web.args[0]"),
        (
            "        storage:\n",
            GPU.replace("nvidia: [{model: h100}]", "amd: []"),
            f"{COMPUTE}.gpu.attributes.vendor.amd",
        ),
    ],
)
def test_go_mode_warns_where_strict_mode_refuses(old: str, new: str, path: str) -> None:
    text = edited((old, new))
    assert path in [problem.path for problem in problems(text)]
    assert path in [warning.path for warning in parse(text, mode=Mode.GO).warnings]


@pytest.mark.parametrize("text", ["", "[]", "5", "~", "services", "--- {}"])
def test_what_is_no_document_at_all_is_refused(text: str) -> None:
    for mode in Mode:
        assert problems(text, mode)


def test_two_services_cannot_have_one_port_of_one_address() -> None:
    second = "  other:\n    image: x\n    expose: [{port: 80, to: [{global: true, ip: myip}]}]\nprofiles:"
    text = edited(
        ("global: true", "global: true\n            ip: myip"),
        ("profiles:", second),
        ("deployment:", ENDPOINTS + "deployment:\n  other: {west: {profile: small, count: 1}}"),
    )
    assert [problem.code for problem in problems(text)] == ["endpoint.port"]


def test_an_address_needs_global_beside_it() -> None:
    second = "global: true\n          - {service: web, ip: myip}"
    found = problems(edited(("global: true", second), ("deployment:", ENDPOINTS + "deployment:")))
    assert [problem.code for problem in found] == ["endpoint.global"]


def test_one_placement_has_one_kind_of_confidential_computing() -> None:
    text = edited(
        (IMAGE, PARAMS + "{tee: cpu-gpu}"),
        ("profiles:", "  also:\n    image: x\n    params: {tee: cpu}\nprofiles:"),
        ("deployment:", "deployment:\n  also: {west: {profile: small, count: 1}}"),
        ("        storage:\n", GPU),
    )
    assert [problem.code for problem in problems(text)] == ["tee.mixed"]


def test_two_denominations_do_not_mix() -> None:
    text = edited(
        ("  placement:", f"    big: {{resources: {BIG}}}\n  placement:"),
        ("      pricing:", "      pricing:\n        big: {denom: uakt, amount: 1}"),
        ("profiles:", "  also: {image: x}\nprofiles:"),
        ("deployment:", "deployment:\n  also: {west: {profile: big, count: 1}}"),
    )
    assert [problem.code for problem in problems(text)] == ["price.denom"]


def test_two_volumes_cannot_share_a_mount() -> None:
    text = edited(
        (IMAGE, PARAMS + "{storage: {a: {mount: /d}, b: {mount: /d}}}"),
        (SIZE, "        - {name: a, size: 1Gi}\n        - {name: b, size: 1Gi}"),
    )
    assert [problem.code for problem in problems(text)] == ["storage.mount"]


def test_a_volume_in_memory_cannot_be_read_only_since_version_2_1() -> None:
    edits = [
        (IMAGE, PARAMS + "{storage: {default: {mount: /d, readOnly: true}}}"),
        (SIZE, VOLUME + "{class: ram, persistent: false}"),
    ]
    parse(edited(*edits))
    found = problems(edited(*edits, ('version: "2.0"', 'version: "2.1"')))
    assert [problem.code for problem in found] == ["storage.ram"]


def test_names_near_what_was_meant_are_suggested() -> None:
    assert nearest("imgae", ["image", "env"]) == "did you mean 'image'?"
    assert nearest("zzz", ["image", "env"]) == ""
    assert show_path(("a", "b", 0, "c")) == "a.b[0].c"


def test_a_port_with_a_fraction_is_cut_as_the_reference_cuts_it() -> None:
    stack = parse(SDL.replace("port: 80", "port: 80.9"), mode=Mode.GO)
    assert stack.manifest[0].services[0].expose[0].port == 80
    assert parse(SDL.replace("port: 80", "port: 80.0")).version_hash == parse(SDL).version_hash


def test_a_service_name_is_a_dns_label() -> None:
    text = SDL.replace("  web:", "  Web:")
    assert ("service.name", "services.Web") in [(problem.code, problem.path) for problem in problems(text)]


def test_a_placement_needs_a_name() -> None:
    found = problems(SDL.replace("    west:", "    '':"))
    assert "placement.name" in [problem.code for problem in found]


def test_a_profile_without_resources_is_told_and_not_stumbled_over() -> None:
    for empty in ("small: {}", "small:", "small: {resources: }"):
        text = SDL[: SDL.index("    small:")] + f"    {empty}\n" + SDL[SDL.index("  placement:") :]
        assert "resources.missing" in [problem.code for problem in problems(text, Mode.GO)]


def test_more_problems_than_anybody_reads_are_cut_short() -> None:
    text = SDL.replace("    image: nginx:1.27", "    image: x\n    env: [" + "'=', " * 200 + "]")
    assert len(problems(text)) == 64
