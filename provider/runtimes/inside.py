"""Where the paths of a sandbox lie once links are followed as the kernel will follow them inside.

bwrap makes mount points before it has changed its root. A link on the way to one, which an image brought or a
tenant left in a volume, would be followed from the machine's root: directories would appear outside. So runners
are only given paths without links, followed here first. Nobody changes the trees meanwhile: images are never
written to, and a volume belongs to one workload, which does not run yet.

crun makes the mount points that an image lacks in the image itself, for all workloads to see. So where one is
missing it is given a tree of our own instead, `Grown`: the image's folders on the way, all else bound into them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from fondaco.protocol.errors import Refused
from fondaco.provider.runtimes import bounds


class Inside:
    """The mounts of one sandbox to be, in the order they are made in."""

    def __init__(self, root: Path) -> None:
        self._mounts: dict[PurePosixPath, Path | None] = {PurePosixPath("/"): root}
        self._root = root
        self.files: set[PurePosixPath] = set()
        """Mount points that are files, not folders."""

    def mount(self, path: str, source: Path | None = None, *, file: bool = False) -> str:
        """Where `path` lies; from now on `source` is there, or nothing yet where it is None."""
        real = self._follow(path)
        if file:
            self.files.add(real)
        self._mounts[real] = source
        return str(real)

    def points(self) -> list[PurePosixPath]:
        """Mount points that the image itself has to have: those that lie in no other mount."""
        top = PurePosixPath("/")
        return [
            one for one in self._mounts if one.name and next(p for p in one.parents if p in self._mounts) == top
        ]

    def fits(self, point: PurePosixPath) -> bool:
        """Whether the image has what can be mounted on there."""
        there = self._root / point.relative_to("/")
        return there.is_file() if point in self.files else there.is_dir()

    def _follow(self, path: str) -> PurePosixPath:
        here, hops = PurePosixPath("/"), 0
        todo = _parts(path)
        while todo:
            part = todo.pop()
            step = here.parent if part == ".." else here / part
            outside = self._outside(step)
            if outside is None or not outside.is_symlink():
                here = step
                continue
            hops += 1
            if hops > bounds.IMAGE_SYMLINK_HOPS:
                raise Refused("workload.mount", f"mount point {path[:100]!r} goes round in links")
            link = str(outside.readlink())
            here = PurePosixPath("/") if link.startswith("/") else here
            todo += _parts(link)
        return here

    def _outside(self, step: PurePosixPath) -> Path | None:
        """What `step`, on the way to which there is no link, is on this machine; None where nothing is yet."""
        top = next(one for one in (step, *step.parents) if one in self._mounts)
        source = self._mounts[top]
        return None if source is None else source / step.relative_to(top)


def _parts(path: str) -> list[str]:
    """Last first."""
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


class Grown:
    """An image's tree with mount points that it lacks: folders of our own, and what is bound into them."""

    def __init__(
        self,
        top: Path,
        image: Path,
        points: list[PurePosixPath],
        owner: int,
        files: Collection[PurePosixPath] = (),
    ) -> None:
        """Lay it out in `top`, an empty directory.  Raises `Refused` `workload.mount` if it takes too much."""
        self._top = top
        self._image = image
        self._owner = owner
        self._points = points
        self._files = files
        self.bound: list[PurePosixPath] = []
        """Paths of the image to be bound where they are."""
        self._grow(PurePosixPath("/"))

    def _grow(self, at: PurePosixPath) -> None:
        """Make what `at` has to hold: a point is left empty, and what is no way to one is bound."""
        image = self._image / at.relative_to("/")
        names = {entry.name for entry in image.iterdir()} if image.is_dir() else set()
        names |= {point.relative_to(at).parts[0] for point in self._points if point.is_relative_to(at)}
        for path in sorted(at / name for name in names):
            theirs, mine = self._image / path.relative_to("/"), self._top / path.relative_to("/")
            if any(point.is_relative_to(path) for point in self._points):
                mine.touch() if path in self._files else mine.mkdir()
                os.chown(mine, self._owner, -1)
                if path not in self._points:
                    self._grow(path)
            elif theirs.is_symlink():
                mine.symlink_to(theirs.readlink())
            elif theirs.is_dir() or theirs.is_file():
                mine.mkdir() if theirs.is_dir() else mine.touch()
                self.bound.append(path)
        if len(self.bound) > bounds.WORKLOAD_BOUND_PATHS:
            raise Refused(
                "workload.mount",
                f"the image has too much beside a mount point below {at}",
                hint="give the image a directory where the volume is to be",
            )
