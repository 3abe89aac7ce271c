"""Image references, as the field writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.protocol.errors import Refused
from fondaco.provider.images.references import parse_reference, registry_host

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("registry-1.docker.io/team/app", "docker.io/team/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("127.0.0.1:5000/team/app:1", "127.0.0.1:5000/team/app:1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("GHCR.io/team/app_a/b--c.d__e:V1.0_x-y", "ghcr.io/team/app_a/b--c.d__e:V1.0_x-y"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"ghcr.io/a/b:1.2@{DIGEST}", f"ghcr.io/a/b@{DIGEST}"),
        ("ghcr.io:443/a/b", "ghcr.io/a/b:latest"),
        ("docker.io:0443/nginx", "docker.io/library/nginx:latest"),
        ("ghcr.io:05000/a/b", "ghcr.io:5000/a/b:latest"),
        ("app:5000", "docker.io/library/app:5000"),
        ("sha256:" + "a1" * 32, "docker.io/library/sha256:" + "a1" * 32),
    ],
)
def test_a_reference_means_what_it_means_to_docker(written: str, meant: str) -> None:
    assert str(parse_reference(written)) == meant
    assert str(parse_reference(meant)) == meant


@pytest.mark.parametrize(
    "written",
    [
        *(
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "Nginx",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:",
            "a:-b",
            "a:b:c",
            "a:b/c",
        ),
        *("a@", "a@sha256:12", "a@md5:" + "a" * 32, f"a@{DIGEST}x", f"@{DIGEST}", "a@sha512:" + "a" * 128),
        *(
            "host.io/",
            "host.io:0/a",
            "host.io:70000/a",
            "host.io./a",
            "ho_st.io/a",
            "-host.io/a",
            "ho..st/a",
            "[::1/a",
            "a\nb",
        ),
        *(
            "a1" * 32,
            "../a",
            "host.io/../a",
            "a" * 600,
            "host.io/" + "a" * 250,
            "a:" + "x" * 129,
            "https://x.io/a",
        ),
    ],
)
def test_what_names_no_image_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse_reference(written)
    assert refusal.value.code == "image.reference"
    assert "\n" not in refusal.value.message


@given(st.text(alphabet="ab.:/@-_A5[]\n\0é", max_size=30))
def test_whatever_is_read_reads_the_same_in_full(text: str) -> None:
    try:
        found = parse_reference(text)
    except Refused:
        return
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        (" Registry.Example:5000 ", "registry.example:5000"),
        ("http://localhost:5000/v2/", "localhost:5000"),
    ],
)
def test_hosts_are_found_in_what_people_write(written: str, meant: str) -> None:
    assert registry_host(written) == meant


def test_credentials_for_no_host_are_refused() -> None:
    with pytest.raises(Refused, match=r"image\.reference"):
        registry_host("user@host")
