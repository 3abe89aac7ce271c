"""An operator's word on where images come from."""

from __future__ import annotations

import pytest

from fondaco.protocol.errors import Refused
from fondaco.provider.images.references import parse_reference
from fondaco.provider.images.registries import Login, Registries, check_entry

APP = "registry.example.org:5000/team/app:1"


@pytest.mark.parametrize(
    ("entry", "image", "matches"),
    [
        ("*", APP, True),
        ("registry.example.org:5000", APP, True),
        ("Registry.Example.org:5000", APP, True),
        ("registry.example.org", APP, False),
        ("*.example.org", APP, True),
        ("*.ple.org", APP, False),
        ("*.registry.example.org", APP, False),
        ("registry.example.org:5000/team", APP, True),
        ("registry.example.org:5000/team/", APP, True),
        ("registry.example.org:5000/team/app", APP, True),
        ("registry.example.org:5000/te", APP, False),
        ("docker.io", "nginx", True),
        ("index.docker.io", "nginx", True),
        ("docker.io/library", "nginx", True),
        ("docker.io/library", "team/app", False),
    ],
)
def test_entries_name_hosts_paths_and_domains(entry: str, image: str, matches: bool) -> None:
    check_entry(entry)
    reference = parse_reference(image)
    allowing, denying = Registries(allow=(entry,)), Registries(deny=(entry,))
    (allowing if matches else denying).admit(reference)
    with pytest.raises(Refused, match=r"image\.registry") as refusal:
        (denying if matches else allowing).admit(reference)
    assert reference.name in refusal.value.message


def test_what_is_denied_is_denied_though_it_is_allowed() -> None:
    registries = Registries(allow=("docker.io",), deny=("docker.io/library",))
    registries.admit(parse_reference("team/app"))
    with pytest.raises(Refused, match=r"image\.registry"):
        registries.admit(parse_reference("nginx"))


@pytest.mark.parametrize("entry", ["", "a b", "*.", "host:port", "/path"])
def test_entries_that_name_nothing_are_refused(entry: str) -> None:
    with pytest.raises(Refused, match=r"image\.reference"):
        check_entry(entry)


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("nginx", "https://registry-1.docker.io"),
        ("ghcr.io/a/b", "https://ghcr.io"),
        ("localhost:5000/a", "http://localhost:5000"),
        ("127.0.0.1:5000/a", "http://127.0.0.1:5000"),
        ("[::1]:5000/a", "http://[::1]:5000"),
        ("lan:5000/a", "http://lan:5000"),
        ("lan:5001/a", "https://lan:5001"),
        ("127.0.0.1.evil.org/a", "https://127.0.0.1.evil.org"),
    ],
)
def test_registries_are_spoken_to_with_tls_but_for_those_here_and_those_listed(image: str, url: str) -> None:
    assert Registries(insecure=frozenset({"lan:5000"})).base_url(parse_reference(image)) == url


def test_a_tenants_login_is_used_at_its_own_registry_only_and_before_the_operators() -> None:
    tenant = Login(host="ghcr.io", username="t", password="p")
    operator = Login(host="ghcr.io", username="o", password="p")
    hub = Login(host="docker.io", username="o", password="p")
    registries = Registries(logins={"ghcr.io": operator, "docker.io": hub})
    ghcr, nginx = parse_reference("ghcr.io/a/b"), parse_reference("nginx")
    assert registries.login_for(ghcr, tenant) == tenant
    assert registries.login_for(ghcr, None) == operator
    assert registries.login_for(nginx, tenant) == hub
    assert registries.login_for(parse_reference("quay.io/a/b"), tenant) is None
