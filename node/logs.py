"""Logging for processes: one line an event, on standard error."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s %(message)s"


def configure(*, verbose: bool = False) -> None:
    """Send our log lines to standard error; libraries speak from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fondaco").setLevel(logging.DEBUG if verbose else logging.INFO)


def configure_quiet() -> None:
    """For commands: only what a person should know, and never a library's chatter."""
    configure()
    logging.getLogger("fondaco").setLevel(logging.WARNING)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
