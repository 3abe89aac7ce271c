"""Keys at rest: one encrypted file each, in a folder only its owner can read.

    {"format": 1, "kind": "mnemonic" | "seed", "public_key": hex, "address": "fond1...",
     "kdf": {"name": "argon2id13", "passes": n, "memory_bytes": n, "salt": hex}, "box": hex}

`box` is NaCl's SecretBox over the secret, under the passphrase stretched by argon2id. The secret is the BIP-39
entropy (kind `mnemonic`, so that the words can be shown again) or a bare ed25519 seed (kind `seed`, imported).
What it costs to try a passphrase is in the file, so it can be raised later without a new format. Opening also
checks that the secret gives the public key the file shows.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nacl.exceptions
import nacl.pwhash.argon2id as argon2id
import nacl.secret
import nacl.utils

from fondaco.node.files import sync_directory, write_atomically
from fondaco.node.keys import mnemonic
from fondaco.node.keys.sealing import SealingPair
from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import PublicKey
from fondaco.protocol.signing import Signer

FORMAT = 1
SUFFIX = ".key"
DEFAULT = "default"
"""Names the key that is used where none is named; beside the keys."""
USUAL = "tenant"
"""Used where nothing is said, if there is such a key."""
SEED_BYTES = 32
_SECRET_BYTES = {"seed": (SEED_BYTES,), "mnemonic": (16, 20, 24, 28, 32)}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one try of a passphrase costs."""

    passes: int
    memory_bytes: int


INTERACTIVE = Cost(passes=argon2id.OPSLIMIT_INTERACTIVE, memory_bytes=argon2id.MEMLIMIT_INTERACTIVE)
"""2 passes over 64 MiB: the memory a small node can spare at its start."""
MINIMUM = Cost(passes=1, memory_bytes=argon2id.MEMLIMIT_MIN)
"""For throw-away test networks, whose passphrase protects nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An open key. Its secrets show neither in `repr` nor in a comparison's report."""

    name: str
    seed: bytes = field(repr=False)
    """The 32-byte ed25519 seed."""
    entropy: bytes | None = field(repr=False)
    """What the words stand for; None for a key that was imported as a bare seed."""

    def signer(self) -> Signer:
        return Signer(self.seed)

    def sealing(self) -> SealingPair:
        return SealingPair.from_seed(self.seed)

    def words(self) -> str:
        """The BIP-39 words to write down. Raises `Refused` `keys.no_words` for an imported bare seed."""
        if self.entropy is None:
            raise Refused("keys.no_words", f"key {self.name!r} was imported without words: copy its file instead")
        return mnemonic.to_words(self.entropy)

    @property
    def public_key(self) -> PublicKey:
        return self.signer().public_key

    @property
    def address(self) -> str:
        return addresses.encode(self.public_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What a key file shows without its passphrase."""

    name: str
    kind: str
    """`mnemonic` if there are words for it, `seed` if it came without."""
    public_key: PublicKey
    path: Path

    @property
    def address(self) -> str:
        return addresses.encode(self.public_key)


class Keystore:
    """The named keys in one folder (made, mode 0700, with the first key)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def create(self, name: str, passphrase: str, *, cost: Cost = INTERACTIVE) -> Key:
        """Make a new key from fresh randomness. Raises `Refused` `keys.exists`, `keys.name`."""
        return self._add(name, passphrase, mnemonic.new_entropy(), "mnemonic", cost)

    def restore(self, name: str, passphrase: str, words: str, *, cost: Cost = INTERACTIVE) -> Key:
        """Make a key from its words. Raises `Refused` `keys.mnemonic` besides what `create` raises."""
        return self._add(name, passphrase, mnemonic.to_entropy(words), "mnemonic", cost)

    def add_seed(self, name: str, passphrase: str, seed: bytes, *, cost: Cost = INTERACTIVE) -> Key:
        """Keep a key that exists as a bare 32-byte ed25519 seed."""
        assert len(seed) == SEED_BYTES, "an ed25519 seed has 32 bytes"
        return self._add(name, passphrase, seed, "seed", cost)

    def check_free(self, name: str) -> None:
        """Raise `Refused` `keys.exists` or `keys.name`, before anybody is asked for anything."""
        if self._path(name).exists():
            raise self._exists(name)

    def load(self, name: str, passphrase: str) -> Key:
        """Open a key.

        Raises `Refused` `keys.not_found`, `keys.permissions`, `keys.malformed` or `keys.wrong_passphrase`.
        """
        content = self._read(name)
        secret = _open_box(name, content, passphrase)
        if len(secret) not in _SECRET_BYTES[content["kind"]]:
            raise _malformed(self._path(name), f"the secret inside has {len(secret)} bytes")
        key = _key(name, content["kind"], secret)
        if key.public_key.hex() != content["public_key"]:
            raise _malformed(self._path(name), "the secret inside belongs to another public key")
        return key

    def change_passphrase(self, name: str, old: str, new: str, *, cost: Cost = INTERACTIVE) -> None:
        """Encrypt a key anew. A crash leaves the old file or the new one. Raises what `load` raises."""
        self.protect(self.load(name, old), new, cost=cost)

    def protect(self, key: Key, new: str, *, cost: Cost = INTERACTIVE) -> None:
        """Likewise, of a key that is open."""
        kind, secret = ("seed", key.seed) if key.entropy is None else ("mnemonic", key.entropy)
        write_atomically(self._path(key.name), _to_bytes(key, kind, secret, new, cost))

    def info(self, name: str) -> KeyInfo:
        """What is known without the passphrase. Raises what `load` raises, but for the passphrase."""
        content = self._read(name)
        public_key = PublicKey(bytes.fromhex(content["public_key"]))
        return KeyInfo(name=name, kind=content["kind"], public_key=public_key, path=self._path(name))

    def list(self) -> tuple[KeyInfo, ...]:
        """All keys by name; at most `limits.KEYS`."""
        return tuple(map(self.info, self._names()))

    def name_of(self, public_key: PublicKey) -> str | None:
        """What this key is called here; None if it is not here."""
        return next((key.name for key in self.list() if key.public_key == public_key), None)

    def default(self) -> str:
        """The name of the key that is used where none is named.

        It is what `use` has named; else `tenant`, or the only key there is.
        """
        try:
            name = (self.directory / DEFAULT).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            names = self._names()
            return names[0] if len(names) == 1 else USUAL
        self._path(name)  # a name, whatever the file holds
        return name

    def use(self, name: str) -> None:
        """Use this key where none is named. Raises `Refused` `keys.not_found`."""
        self.info(name)
        write_atomically(self.directory / DEFAULT, f"{name}\n".encode())

    def rename(self, name: str, new: str) -> None:
        """Call a key otherwise; what `use` said follows. A crash may leave both names, of one key.

        Raises `Refused` `keys.exists`, `keys.name`, and what `info` raises.
        """
        path, uses = self.info(name).path, self._is_used(name)
        try:
            os.link(path, self._path(new))
        except FileExistsError:
            raise self._exists(new) from None
        if uses:
            self.use(new)
        path.unlink()
        sync_directory(self.directory)

    def remove(self, name: str) -> None:
        """Forget a key; if `use` has named it nothing is named any more. Raises what `info` raises."""
        path = self.info(name).path
        if self._is_used(name):
            (self.directory / DEFAULT).unlink()
        path.unlink()
        sync_directory(self.directory)

    def export(self, name: str) -> bytes:
        """The key's file, encrypted as it is. Raises what `info` raises."""
        return self.info(name).path.read_bytes()

    def import_file(self, name: str, data: bytes) -> KeyInfo:
        """Keep a key's file that `export` gave. Its passphrase shows later whether it is what it says.

        Raises `Refused` `keys.exists`, `keys.name` or `keys.malformed`.
        """
        path = self._path(name)
        _parse(path, data)
        self._put(name, data)
        return self.info(name)

    def _names(self) -> Sequence[str]:
        names = sorted(path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}"))
        return [name for name in names[: limits.KEYS] if _NAME.fullmatch(name)]

    def _is_used(self, name: str) -> bool:
        return (self.directory / DEFAULT).exists() and self.default() == name

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Refused(
                "keys.name",
                f"{name[:40]!r} cannot name a key",
                hint="use up to 32 of a-z, 0-9, - and _, starting with a letter or digit",
            )
        return self.directory / f"{name}{SUFFIX}"

    def _add(self, name: str, passphrase: str, secret: bytes, kind: str, cost: Cost) -> Key:
        self._path(name)
        key = _key(name, kind, secret)
        self._put(name, _to_bytes(key, kind, secret, passphrase, cost))
        return key

    def _put(self, name: str, data: bytes) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_atomically(self._path(name), data, replace=False)
        except FileExistsError:
            raise self._exists(name) from None

    def _exists(self, name: str) -> Refused:
        return Refused(
            "keys.exists", f"there is a key named {name!r} in {self.directory}", hint="choose another name"
        )

    def _read(self, name: str) -> dict[str, Any]:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                data = file.read(limits.KEY_FILE_BYTES + 1)
        except FileNotFoundError:
            raise Refused(
                "keys.not_found",
                f"no key named {name!r} in {self.directory}",
                hint="see which there are: fondaco keys list",
            ) from None
        if mode & 0o077:
            raise Refused(
                "keys.permissions", f"{path} can be read by others (mode {mode:o})", hint=f"chmod 600 {path}"
            )
        return _parse(path, data)


def _key(name: str, kind: str, secret: bytes) -> Key:
    if kind == "seed":
        return Key(name=name, seed=secret, entropy=None)
    return Key(name=name, seed=mnemonic.to_seed(secret), entropy=secret)


def _to_bytes(key: Key, kind: str, secret: bytes, passphrase: str, cost: Cost) -> bytes:
    salt = nacl.utils.random(argon2id.SALTBYTES)
    content = {
        "format": FORMAT,
        "kind": kind,
        "public_key": key.public_key.hex(),
        "address": key.address,
        "kdf": {
            "name": "argon2id13",
            "passes": cost.passes,
            "memory_bytes": cost.memory_bytes,
            "salt": salt.hex(),
        },
        "box": _box(passphrase, salt, cost).encrypt(secret).hex(),
    }
    return json.dumps(content, indent=1).encode() + b"\n"


def _box(passphrase: str, salt: bytes, cost: Cost) -> nacl.secret.SecretBox:
    stretched = argon2id.kdf(
        nacl.secret.SecretBox.KEY_SIZE, passphrase.encode(), salt, opslimit=cost.passes, memlimit=cost.memory_bytes
    )
    return nacl.secret.SecretBox(stretched)


def _open_box(name: str, content: dict[str, Any], passphrase: str) -> bytes:
    kdf = content["kdf"]
    cost = Cost(passes=kdf["passes"], memory_bytes=kdf["memory_bytes"])
    box = _box(passphrase, bytes.fromhex(kdf["salt"]), cost)
    try:
        return box.decrypt(bytes.fromhex(content["box"]))
    except nacl.exceptions.CryptoError:
        raise Refused("keys.wrong_passphrase", f"this passphrase does not open key {name!r}") from None


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    """A key file's content, every field checked for type and range."""
    if len(data) > limits.KEY_FILE_BYTES:
        raise _malformed(path, f"larger than {limits.KEY_FILE_BYTES} bytes")
    try:
        content = json.loads(data)
        kdf = content["kdf"]
        good = (
            content["format"] == FORMAT
            and content["kind"] in _SECRET_BYTES
            and len(bytes.fromhex(content["public_key"])) == addresses.KEY_BYTES
            and len(bytes.fromhex(content["box"])) >= nacl.secret.SecretBox.NONCE_SIZE
            and kdf["name"] == "argon2id13"
            and len(bytes.fromhex(kdf["salt"])) == argon2id.SALTBYTES
            and _within(kdf["passes"], limits.KEY_PASSES)
            and _within(kdf["memory_bytes"], limits.KEY_MEMORY_BYTES)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good:
        raise _malformed(path, "its fields are not those of a key file this program knows")
    assert isinstance(content, dict)
    return content


def _within(value: object, bounds: tuple[int, int]) -> bool:
    return type(value) is int and bounds[0] <= value <= bounds[1]


def _malformed(path: Path, why: str) -> Refused:
    return Refused(
        "keys.malformed", f"{path}: {why}", hint="restore the file from a copy, or the key from its words"
    )
