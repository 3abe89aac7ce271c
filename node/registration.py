"""Whether a home's provider was ever registered: a file beside its hand-offs.

The ledger forgets a provider when it has retired, so it looks there as if it had never been. Without this file a
node that is started once more, by habit or by a supervisor, would bond and bid again.
"""

from __future__ import annotations

from pathlib import Path

from fondaco.node.files import write_atomically
from fondaco.protocol.scalars import ChainId


class RegistrationMark:
    """Names the chain that a provider was seen registered on."""

    def __init__(self, provider_home: Path) -> None:
        self._path = provider_home / "registered"

    def is_set(self, chain: ChainId) -> bool:
        try:
            return self._path.read_text(encoding="utf-8") == chain
        except FileNotFoundError:
            return False

    def set(self, chain: ChainId) -> None:
        if not self.is_set(chain):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, chain.encode())

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
