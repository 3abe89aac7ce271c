"""The demo image, made from what is on the machine: no registry and no network needed.

A minimal root around the Python that runs this: the interpreter, the shared libraries it is linked with, the
standard library without its heavy or private parts, and `demo_server`. It is written as an OCI image layout, so
nothing downstream knows that it did not come from a registry. The same machine gives the same digest.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fondaco.node.files import write_atomically
from fondaco.protocol.errors import Refused

REFERENCE = "fondaco/hello:demo"
SERVER = Path(__file__).with_name("demo_server.py")
FORMAT = 1
"""Raised when what goes into the image changes, so that older ones are built anew."""
REF_NAME = "org.opencontainers.image.ref.name"
BUILT_FROM = "fondaco.image.built-from"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

OMITTED_DIRECTORIES = frozenset(
    {
        *("__pycache__", "__phello__", "site-packages", "dist-packages", "lib-dynload"),
        *("test", "tests", "unittest", "idlelib", "tkinter", "turtledemo", "curses", "dbm", "sqlite3"),
        *("distutils", "ensurepip", "lib2to3", "msilib", "pydoc_data", "venv"),
    }
)
OMITTED_EXTENSIONS = re.compile(
    r"(_test|_xx|xx|_tkinter|_curses|readline|_gdbm|_dbm|nis|ossaudiodev|_crypt|_ssl|_hashlib|_sqlite3|_ctypes_test)"
)
LOADER_DIRECTORIES = frozenset({"/lib", "/lib64", "/usr/lib", "/usr/lib64"})
PRECOMPILE = """
import importlib.util, json, marshal, pathlib, sys
import %s
target = pathlib.Path(sys.argv[1])
library = pathlib.Path(sys.argv[2])
names = {}
for module in list(sys.modules.values()):
    path = getattr(module, "__file__", None) or ""
    if path.endswith(".py") and pathlib.Path(path).is_relative_to(library):
        names[str(pathlib.Path(path).relative_to(library))] = path
for name, path in sorted(names.items()):
    source = pathlib.Path(path).read_bytes()
    code = compile(source, "/usr/lib/%s/" + name, "exec", dont_inherit=True)
    flags = (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    cached = target / name.replace("/", "!")
    cached.write_bytes(importlib.util.MAGIC_NUMBER + flags + marshal.dumps(code))
"""
"""Compiles what the server imports, so that the workload does not at every start. `1`: hash-based, unchecked."""
IMPORTED = "encodings.utf_8, encodings.ascii, encodings.latin_1, encodings.idna, http.server, socketserver, json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    reference: str
    digest: str
    """`sha256:...` of the manifest."""


def build_demo_image(layout: Path) -> BuiltImage:
    """Put the demo image into the OCI layout at `layout`; quick if it is there already.

    Raises `Refused` `image.build` where the interpreter's parts cannot be found.
    """
    layout.mkdir(parents=True, exist_ok=True)
    with (layout / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        index = _read_index(layout)
        key = _key()
        for entry in index["manifests"]:
            annotations = entry.get("annotations", {})
            if annotations.get(REF_NAME) == REFERENCE and annotations.get(BUILT_FROM) == key:
                return BuiltImage(reference=REFERENCE, digest=entry["digest"])
        manifest = _build(layout)
        manifest["annotations"] = {REF_NAME: REFERENCE, BUILT_FROM: key}
        others = [e for e in index["manifests"] if e.get("annotations", {}).get(REF_NAME) != REFERENCE]
        index["manifests"] = [*others, manifest]
        write_atomically(layout / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}', 0o644)
        write_atomically(layout / "index.json", _json(index), 0o644)
        return BuiltImage(reference=REFERENCE, digest=manifest["digest"])


def _key() -> str:
    """Changes when the image would."""
    python = _python()
    stat = python.stat()
    facts = [FORMAT, sys.version, str(python), stat.st_size, stat.st_mtime_ns, SERVER.read_text("utf-8")]
    return hashlib.sha256(_json(facts)).hexdigest()


def _build(layout: Path) -> dict[str, Any]:
    raw = _tar(_files())
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    layer = _put(layout, gzip.compress(raw, 1, mtime=0), LAYER_TYPE)
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/python3", "-u", "/app/server.py"],
            "Env": ["PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", "PORT=8080"],
            "ExposedPorts": {"8080/tcp": {}},
            "WorkingDir": "/app",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(raw).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _put(layout, _json(config), CONFIG_TYPE),
        "layers": [layer],
    }
    return {
        **_put(layout, _json(manifest), MANIFEST_TYPE),
        "platform": {"architecture": architecture, "os": "linux"},
    }


def _put(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Store a blob and describe it."""
    digest = hashlib.sha256(data).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        write_atomically(path, data, 0o644)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _files() -> dict[str, bytes | str]:
    """Everything in the image: name -> content, or `->` and the target of a symbolic link."""
    python = _python()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(sysconfig.get_path("stdlib"))
    if not (library / "os.py").is_file():
        raise Refused("image.build", f"no standard library at {library}", hint="install python3 with its library")
    extensions = sorted(
        path for path in (library / "lib-dynload").glob("*.so") if OMITTED_EXTENSIONS.match(path.name) is None
    )
    home = f"usr/lib/{version}"
    files: dict[str, bytes | str] = {
        "app/server.py": SERVER.read_bytes(),
        "bin": "->usr/bin",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n",
        "etc/passwd": b"root:x:0:0:root:/root:/usr/bin/python3\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "lib": "->usr/lib",
        "lib64": "->usr/lib",
        "usr/bin/python3": python.read_bytes(),
        "usr/lib64": "->lib",
    }
    files |= {f"{home}/{name}": content for name, content in _modules(library)}
    files |= {f"{home}/lib-dynload/{path.name}": path.read_bytes() for path in extensions}
    for path in _shared_libraries([python, *extensions]):
        directory = str(path.parent)
        # A loader outside the usual places (Nix) is named in the interpreter by its full path.
        usual = directory in LOADER_DIRECTORIES or not path.name.startswith("ld-")
        name = f"usr/lib/{path.name}" if usual else str(path).lstrip("/")
        files[name] = path.read_bytes()
    return files


def _python() -> Path:
    """The real interpreter, also from inside a virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def _modules(library: Path) -> Iterator[tuple[str, bytes]]:
    for directory, names, found in os.walk(library):
        names[:] = [name for name in names if name not in OMITTED_DIRECTORIES and not name.startswith("config-")]
        for name in found:
            path = Path(directory, name)
            if name.endswith(".py") and name != "turtle.py" and path.is_file():
                yield str(path.relative_to(library)), path.read_bytes()
    yield from _compiled(library)


def _compiled(library: Path) -> Iterator[tuple[str, bytes]]:
    """Byte code of what the server imports, made by the interpreter it is for."""
    import tempfile  # only here: building is rare

    script = PRECOMPILE % (IMPORTED, library.name)
    with tempfile.TemporaryDirectory() as target:
        command = [str(_python()), "-I", "-S", "-c", script, target, str(library)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise Refused("image.build", f"cannot compile the standard library: {made.stderr[-300:].strip()}")
        for path in Path(target).iterdir():
            *parents, name = path.name.split("!")
            cached = f"{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
            yield "/".join([*parents, "__pycache__", cached]), path.read_bytes()


def _shared_libraries(programs: list[Path]) -> list[Path]:
    """All libraries that `programs` are linked with, and the loader, by the names they are looked up with."""
    try:
        told = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise Refused("image.build", "ldd is missing", hint="install libc-bin") from None
    found = {Path(match[1]) for match in re.finditer(r"(?:=>\s|^\s+)(/\S+)\s+\(0x", told, re.MULTILINE)}
    if not found:
        raise Refused("image.build", "ldd names no library of the running Python")
    return sorted({path.name: path for path in sorted(found)}.values())


def _tar(files: dict[str, bytes | str]) -> bytes:
    """An archive that depends on nothing but `files`."""
    names = sorted(files)
    directories = {str(parent) for name in names for parent in Path(name).parents if str(parent) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted({*names, *directories, "tmp"}):
            member = tarfile.TarInfo(name)
            content = files.get(name)
            member.mode = 0o755
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif isinstance(content, str):
                member.type = tarfile.SYMTYPE
                member.linkname = content.removeprefix("->")
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _read_index(layout: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((layout / "index.json").read_bytes())
    except FileNotFoundError:
        return {"schemaVersion": 2, "manifests": []}
    return index


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
