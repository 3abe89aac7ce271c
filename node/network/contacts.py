"""What became of the peers we met or tried to meet: dials that failed, and connections that ended.

For people who ask why a peer is not connected; nothing is decided by it. Times are seconds of the caller's clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from fondaco.node.network.peers import Address, PeerId
from fondaco.protocol import limits


@dataclass(slots=True)
class Contact:
    """One peer."""

    address: Address | None = None
    """Where it was dialled last."""
    failures: int = 0
    """Dials that failed in a row."""
    error: str = ""
    """Of the last of them."""
    failed_at: float | None = None
    next_at: float | None = None
    """When it is dialled again; None where nobody will."""
    left_at: float | None = None
    """When its last connection ended."""
    dropped: str = ""
    """Why we ended it; empty where we did not."""


class Contacts:
    """By peer; beyond `limits.CONTACTS` those go that nothing happened with for longest."""

    def __init__(self) -> None:
        self._of: OrderedDict[PeerId, Contact] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def of(self, peer: PeerId) -> Contact | None:
        return self._of.get(peer)

    def reached(self, peer: PeerId, address: Address) -> None:
        """A dial was answered."""
        contact = self._touch(peer)
        contact.address, contact.failures, contact.error = address, 0, ""
        contact.failed_at = contact.next_at = None

    def failed(self, peer: PeerId, address: Address, error: str, now: float) -> None:
        contact = self._touch(peer)
        contact.address, contact.error, contact.failed_at = address, error[:ERROR_CHARACTERS], now
        contact.failures += 1

    def retry(self, peer: PeerId, at: float) -> None:
        """It is dialled again then."""
        self._touch(peer).next_at = at

    def came(self, peer: PeerId) -> None:
        contact = self._touch(peer)
        contact.dropped, contact.next_at = "", None

    def dropping(self, peer: PeerId, reason: str) -> None:
        """We are about to end its connections."""
        self._touch(peer).dropped = reason[:ERROR_CHARACTERS]

    def left(self, peer: PeerId, now: float) -> None:
        self._touch(peer).left_at = now

    def _touch(self, peer: PeerId) -> Contact:
        contact = self._of.setdefault(peer, Contact())
        self._of.move_to_end(peer)
        if len(self._of) > limits.CONTACTS:
            self._of.popitem(last=False)
        return contact


ERROR_CHARACTERS = 300
"""Of an error that is remembered."""
