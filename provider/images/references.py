"""Image references, read as the field reads them (github.com/distribution/reference, `reference.go`).

    [host[:port]/]path[:tag][@sha256:...]

The first part is a host if it has a dot or a colon, or is `localhost`; else the image is Docker Hub's, and a path
of one part lies in its `library/`. Without tag and digest, `latest` is meant; where both are given, the digest
counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fondaco.protocol.errors import Refused

HUB = "docker.io"
HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
"""All of them are Docker Hub."""
REFERENCE_CHARACTERS = 512
NAME_CHARACTERS = 255
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]{0,61}[a-zA-Z0-9])"
_HOST = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
HTTPS_PORT = 443
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where an image lies and which one it is; `str` gives it in full."""

    host: str
    """Lower case, with the port if there is one: `docker.io`, `registry.example:5000`, `[2001:db8::1]:5000`."""
    path: str
    tag: str
    """Empty where a digest says which image is meant."""
    digest: str
    """`sha256:...`, or empty."""

    @property
    def name(self) -> str:
        """Host and path: what a registry's permissions are about."""
        return f"{self.host}/{self.path}"

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse_reference(text: str) -> Reference:
    """Read a reference.  Raises `Refused` `image.reference`."""
    if len(text) > REFERENCE_CHARACTERS:
        raise _wrong(text, f"it is longer than {REFERENCE_CHARACTERS} characters")
    rest, at, digest = text.partition("@")
    if at and DIGEST.fullmatch(digest) is None:
        raise _wrong(text, "what follows @ is no sha256 digest in hexadecimal")
    first, slash, path = rest.partition("/")
    if slash and _is_host(first):
        host = registry_host(first)
    else:
        host, path = HUB, rest
    path, colon, tag = path.partition(":")
    if colon and _TAG.fullmatch(tag) is None:
        raise _wrong(text, f"{tag[:40]!r} is no tag")
    if host == HUB and "/" not in path:
        path = f"library/{path}"
    if _PATH.fullmatch(path) is None or len(f"{host}/{path}") > NAME_CHARACTERS:
        raise _wrong(text, "a name is lower-case words with . _ - between them, in parts divided by /")
    if _IDENTIFIER.fullmatch(path.removeprefix("library/")):
        raise _wrong(text, "64 hexadecimal digits name no image")
    return Reference(host=host, path=path, tag="" if digest else tag or "latest", digest=digest)


def registry_host(text: str) -> str:
    """A registry's host and port as references have it, from what people write: a URL too, or another name of Hub.

    Raises `Refused` `image.reference`.
    """
    host = text.strip().removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    found = _HOST.fullmatch(host)
    port = HTTPS_PORT if found is None or found["port"] is None else int(found["port"])
    if found is None or not 1 <= port <= 65_535:
        raise _wrong(text, f"{host[:100]!r} is no host of a registry")
    # One spelling of each: what an operator denies is not to be had by another one.
    host = found["name"] if port == HTTPS_PORT else f"{found['name']}:{port}"
    return HUB if host in HUB_NAMES else host


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost" or part.lower() != part


def _wrong(text: str, why: str) -> Refused:
    return Refused(
        "image.reference", f"image {text[:100]!r}: {why}", hint="write it as registry.example/team/app:1.2"
    )
