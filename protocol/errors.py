"""What can go wrong, and whose fault it is.

    FondacoError
    ├── PeerFault        a peer broke the protocol: drop it and score it down
    │   └── Malformed    its bytes are not a canonical message
    ├── Refused          well-formed input that the rules do not allow: goes to the user or into a receipt
    └── Unreachable      nobody answered: worth trying again

Everything else that escapes is a bug of ours and stops the program. Codes are stable: programs match on
`code`, people read `message`.
"""

from __future__ import annotations


class FondacoError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        """Stable, dotted, lower case: `escrow.dry`."""
        self.message = message
        """What, and where, in one line."""
        self.hint = hint
        """What to do next, where there is something to do."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class PeerFault(FondacoError):
    """A peer sent what no honest peer sends."""


class Malformed(PeerFault):
    """Bytes that do not decode to a canonical message."""


class Refused(FondacoError):
    """Outside input that the rules do not allow; nothing was changed."""


class Unreachable(FondacoError):
    """No peer answered in time."""

    exit_code = 3
