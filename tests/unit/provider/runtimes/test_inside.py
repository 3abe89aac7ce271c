"""Mount points are found inside, whatever links an image or a volume has on the way."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds
from fondaco.provider.runtimes.inside import Grown, Inside


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "var").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "var" / "run").symlink_to("../run")
    (root / "out").symlink_to("/../../..")
    (root / "round").symlink_to("/round")
    (root / "far").symlink_to("/out/var/run")
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data", "/data"),
        ("/data/../run/./x/", "/run/x"),
        ("/var/run/app", "/run/app"),
        ("/out/data", "/data"),
        ("/../../data", "/data"),
        ("/far/x", "/run/x"),
        ("/", "/"),
    ],
)
def test_links_are_followed_inside(image: Path, path: str, expected: str) -> None:
    assert Inside(image).mount(path) == expected


def test_what_is_mounted_hides_what_the_image_has_there(image: Path, tmp_path: Path) -> None:
    inside = Inside(image)
    assert inside.mount("/var") == "/var"
    assert inside.mount("/var/run/app") == "/var/run/app"
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "link").symlink_to("/var/deep")
    assert inside.mount("/data", volume) == "/data"
    assert inside.mount("/data/link/x") == "/var/deep/x"


def test_a_file_is_mounted_on_a_file(image: Path, tmp_path: Path) -> None:
    inside = Inside(image)
    (image / "etc").mkdir()
    (image / "etc" / "resolv.conf").symlink_to("../run/resolv.conf")
    inside.mount("/run")
    hosts = PurePosixPath(inside.mount("/etc/hosts", file=True))
    assert inside.mount("/etc/resolv.conf", file=True) == "/run/resolv.conf"
    assert hosts in inside.points()
    assert not inside.fits(hosts)
    (image / "etc" / "passwd").touch()
    top = tmp_path / "top"
    top.mkdir()
    grown = Grown(top, image, inside.points(), os.geteuid(), inside.files)
    assert (top / "etc" / "hosts").is_file()
    assert PurePosixPath("/etc/passwd") in grown.bound
    (image / "etc" / "hosts").touch()
    assert inside.fits(hosts)


def test_links_without_an_end_are_refused(image: Path) -> None:
    with pytest.raises(Refused, match=r"workload\.mount"):
        Inside(image).mount("/round/data")


def test_only_the_outermost_mounts_have_to_be_in_the_image(image: Path, tmp_path: Path) -> None:
    inside = Inside(image)
    for path in ("/dev", "/dev/shm", "/data/a", "/data/a/b"):
        inside.mount(path)
    assert inside.points() == [PurePosixPath("/dev"), PurePosixPath("/data/a")]


def test_a_tree_grows_mount_points_that_its_image_lacks_and_the_image_none(image: Path, tmp_path: Path) -> None:
    (image / "var" / "lib").mkdir()
    (image / "var" / "lib" / "kept").mkdir()
    (image / "file").write_text("x")
    before = sorted(image.rglob("*"))
    top = tmp_path / "grown"
    top.mkdir()
    grown = Grown(top, image, [PurePosixPath("/run"), PurePosixPath("/var/lib/data")], os.geteuid())
    assert sorted(map(str, grown.bound)) == ["/file", "/var/lib/kept"]
    assert {str(path.relative_to(top)) for path in top.rglob("*")} == {
        *("file", "run", "out", "far", "round"),
        *("var", "var/run", "var/lib", "var/lib/data", "var/lib/kept"),
    }
    assert (top / "var" / "run").readlink() == Path("../run")
    assert sorted(image.rglob("*")) == before


def test_an_image_with_too_much_to_bind_is_refused(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "WORKLOAD_BOUND_PATHS", 1)
    (tmp_path / "grown").mkdir()
    with pytest.raises(Refused, match=r"workload\.mount"):
        Grown(tmp_path / "grown", image, [PurePosixPath("/data")], os.geteuid())
