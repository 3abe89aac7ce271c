"""Where the passphrase of a home's keys comes from, and how it stays out of sight.

In this order: $FONDACO_PASSPHRASE; the file that $FONDACO_PASSPHRASE_FILE names; HOME/passphrase. The variables
are taken out of the environment when they are read, so that no child process inherits them and no dump of the
environment shows them, and the value is overwritten where the kernel shows it (`/proc/PID/environ`, `ps e`). Until
then whoever may read this process's environment can read it there, which no program can help: a file is better.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fondaco.protocol import limits
from fondaco.protocol.errors import Refused

VARIABLE = "FONDACO_PASSPHRASE"
FILE_VARIABLE = "FONDACO_PASSPHRASE_FILE"
FILE_NAME = "passphrase"
FILE_BYTES = 4 * limits.KIB
STDIN = Path("-")
"""Stands for standard input where a file of secrets is named."""


@dataclass(slots=True)
class _Taken:
    """What this process was told by its environment."""

    text: str | None = field(default=None, repr=False)
    file: Path | None = None


_taken = _Taken()


def take() -> None:
    """Move what the environment says of a passphrase out of it; said again, it replaces what was said before."""
    text, file = os.environ.get(VARIABLE), os.environ.get(FILE_VARIABLE)
    if text is not None:
        _wipe(VARIABLE)
        del os.environ[VARIABLE]
    if file is not None:
        del os.environ[FILE_VARIABLE]
    if text is not None or file is not None:
        _taken.text, _taken.file = text, Path(file) if file else None


def forget() -> None:
    """Know nothing of what was taken."""
    _taken.text = _taken.file = None


def is_given() -> bool:
    """Whether the environment named a passphrase, or a file of one: then the home's own file does not count."""
    take()
    return _taken.text is not None or _taken.file is not None


def find(home: Path) -> str | None:
    """The passphrase for the keys in `home`; None if nothing says it. Raises `Refused` as `read_secret` does."""
    if is_given():
        return _taken.text if _taken.text is not None else read_secret(_taken.file or STDIN)
    path = home / FILE_NAME
    return read_secret(path) if path.exists() else None


def read_passphrase(home: Path) -> str:
    """Likewise, but raises `Refused` `keys.no_passphrase` if nothing says it."""
    found = find(home)
    if found is None:
        raise none_for(home)
    return found


def none_for(home: Path) -> Refused:
    return Refused(
        "keys.no_passphrase",
        f"no passphrase for the keys in {home}",
        hint=f"name a file that only you can read in {FILE_VARIABLE}, or set {VARIABLE}",
    )


def read_secret(path: Path) -> str:
    """What a file of one secret says, without the white space around it; `-` is standard input.

    Raises `Refused`: `secret.unreadable`, `secret.permissions` if others than its owner may read the file,
    `secret.size`, `secret.empty`.
    """
    data = sys.stdin.buffer.read(FILE_BYTES + 1) if path == STDIN else _read(path)
    if len(data) > FILE_BYTES:
        raise Refused("secret.size", f"{path} holds more than the {FILE_BYTES} bytes of any secret")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise Refused("secret.unreadable", f"{path} is not text") from None
    if not text:
        raise Refused("secret.empty", f"{path} is empty", hint="write the secret into it")
    return text


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Refused(
                    "secret.permissions", f"{path} can be read by others (mode {mode:o})", hint=f"chmod 600 {path}"
                )
            return file.read(FILE_BYTES + 1)
    except OSError as error:
        raise Refused("secret.unreadable", f"{path}: {error.strerror}") from None


def _wipe(name: str) -> None:
    """Overwrite a variable's value in place: what the kernel shows is the memory that the process began with."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    address = libc.getenv(name.encode())
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))
