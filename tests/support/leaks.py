"""Secrets in any spelling, and everything that processes wrote or showed while they ran."""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from fondaco.protocol.base58 import base58

LOOK_S = 0.02
YOUNG = 10
"""A new process is looked at so many times in a row, for it may yet become another program; then rarely."""
SHORTEST = 8
"""Bytes of a secret's spelling; what is shorter would be found by chance."""


@dataclass(frozen=True)
class Secret:
    name: str
    data: bytes
    belongs: Callable[[str], bool] = lambda place: False
    """Whether it may be at a place: the path of a file, `argv`, `environ`, or a stream by name."""


def spellings(data: bytes) -> Iterator[bytes]:
    """How a secret might be written: as it is, hexadecimal, base58, base64 at any offset, as Python shows it."""
    yield data
    yield data.hex().encode()
    yield data.hex().upper().encode()
    yield base58(data).encode()
    yield ", ".join(map(str, data)).encode()
    yield repr(data)[2:-1].encode()
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + data)
        # The characters at both ends also hold bits of whatever stands beside it.
        inner = whole.rstrip(b"=")[(0, 2, 3)[offset] : -1]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


class Search:
    """Looks for secrets, in text that is handed in, and says where one is that does not belong there."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self.secrets = list(secrets)
        self.found: set[str] = set()
        self.seen: set[tuple[str, str]] = set()
        """(secret, place) of those that are where they belong."""
        self.bytes = 0
        self._needles = [
            (secret, needle)
            for secret in self.secrets
            for needle in {one for one in spellings(secret.data) if len(one) >= SHORTEST}
        ]

    def look(self, place: str, data: bytes) -> None:
        self.bytes += len(data)
        for secret, needle in self._needles:
            if needle not in data:
                continue
            if secret.belongs(place):
                self.seen.add((secret.name, place))
            else:
                at = data.index(needle)
                self.found.add(f"{secret.name} in {place}: ...{data[max(0, at - 40) : at]!r}")


def files(folder: Path, *, skip: str) -> Iterator[tuple[str, bytes, int]]:
    """Every file under a folder, but what is in folders named `skip`: where, what it says, and its mode."""
    for where, folders, names in os.walk(folder):
        if skip in folders:
            folders.remove(skip)
        for name in names:
            path = Path(where, name)
            try:
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    yield str(path.relative_to(folder)), path.read_bytes(), stat.S_IMODE(mode)
            except FileNotFoundError:
                continue  # whoever made it has just removed it


@dataclass
class Watch:
    """Notes what any process on this machine shows of itself, `cmdline` and `environ`, until the block is left."""

    shown: dict[tuple[str, bytes], str] = field(default_factory=dict)
    """(kind, what was shown) by whom: the first process that did."""
    _away: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Looks elsewhere: a process that is given a secret shows it until it has taken it away."""
        with self._away:
            yield

    def _run(self) -> None:
        looks, turn = dict[str, int](), 0
        while not self._ended.wait(LOOK_S):
            turn += 1
            names = [name for name in os.listdir("/proc") if name.isdigit()]
            looks = {name: looks.get(name, 0) + 1 for name in names}
            with self._away:
                for name in names:
                    if looks[name] <= YOUNG or turn % YOUNG == 0:
                        self._look(Path("/proc", name))

    def _look(self, folder: Path) -> None:
        for kind in ("cmdline", "environ"):
            try:
                text = (folder / kind).read_bytes()
            except OSError:
                continue  # it has ended, or is not ours to look at
            if text:
                place = f"{kind} in a workload" if _inside(folder) else kind
                self.shown.setdefault((place, text), folder.name)


def _inside(folder: Path) -> bool:
    """Whether a process sees other processes than we do: it is a workload."""
    try:
        return (folder / "ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    except OSError:
        return False
