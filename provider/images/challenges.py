"""What a registry asks for before it answers (RFC 9110, 11.6.1; distribution spec, `auth/token.md`)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fondaco.provider.images.registries import Login

_SCHEME = re.compile(r"\s*,?\s*(?P<scheme>[A-Za-z][A-Za-z0-9_-]*)(?=\s|,|$)(?!\s*=)\s*")
_PARAMETER = re.compile(
    r'\s*,?\s*(?P<key>[A-Za-z_-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s",]+))'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to show who is asking."""

    scheme: str
    """Lower case: `bearer`, `basic`."""
    realm: str = ""
    """With `bearer` the URL of the token server."""
    service: str = ""
    scope: str = ""


def challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """All that `WWW-Authenticate` headers offer; what cannot be read is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        at = 0
        while at < len(header):
            parameter = _PARAMETER.match(header, at)
            scheme = None if parameter else _SCHEME.match(header, at)
            if scheme is not None:
                found.append((scheme["scheme"].lower(), {}))
                at = scheme.end()
            elif parameter is not None and found:
                quoted = parameter["quoted"]
                value = parameter["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1][1][parameter["key"].lower()] = value
                at = parameter.end()
            else:
                break
    return tuple(
        Challenge(
            scheme=scheme,
            realm=fields.get("realm", ""),
            service=fields.get("service", ""),
            scope=fields.get("scope", ""),
        )
        for scheme, fields in found
    )


def basic(login: Login) -> str:
    """The value of an `Authorization` header."""
    pair = f"{login.username}:{login.password}".encode("utf-8", "surrogatepass")
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def token_of(body: bytes) -> str | None:
    """The token in a token server's answer, if there is one that fits into a header."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    return token if isinstance(token, str) and re.fullmatch(r"[!-~]+", token) else None
