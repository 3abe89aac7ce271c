"""Who may change something over the API: whoever can read the node's home.

The API listens on loopback, where every user of the machine can reach it, and any web page that this machine's
browser shows can send it a request. What they may send is as safe as gossip; what is not takes a token that lies
in HOME/data, made anew at each start and readable by the node's owner alone (decision 0034).
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fondaco.node.operator_token import token_path
from fondaco.protocol.errors import Refused

TOKEN_BYTES = 32
bearer = HTTPBearer(auto_error=False, description="the word in HOME/data/operator-token")
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def make_token(data: Path) -> str:
    """Write a new one, to a file that nobody else can have open."""
    path, token = token_path(data), secrets.token_urlsafe(TOKEN_BYTES)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    fresh.replace(path)
    return token


def operator_only(token: str) -> Callable[[Given], None]:
    """A dependency of routes that change something. Raises `Refused` `api.operator`."""

    def check(given: Given) -> None:
        said = "" if given is None else given.credentials
        if not token or not hmac.compare_digest(said.encode(), token.encode()):
            raise Refused(
                "api.operator",
                "only the node's operator may do that",
                hint="send the word in HOME/data/operator-token as `Authorization: Bearer WORD`",
            )

    return check
