"""Where the word lies that shows a command to be the operator's, and how it is read. Needs no web framework."""

from __future__ import annotations

from pathlib import Path

from fondaco.protocol.errors import Refused

NAME = "operator-token"


def token_path(data: Path) -> Path:
    return data / NAME


def read_token(data: Path) -> str:
    """Raises `Refused` `node.no_token`."""
    try:
        return token_path(data).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise Refused(
            "node.no_token",
            f"{token_path(data)} cannot be read",
            hint="run this as the node's owner, while the node runs with its API switched on",
        ) from None
