"""Logging for processes: one line an event, on standard error, for people or for machines.

What an event is about (`extra=`: a lease, a code, a peer) follows its words as `name=value`, or stands beside them
in a line of JSON, so that what happened to one lease is one search away.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

FORMAT = "%(asctime)s %(levelname)-7s %(name)s %(message)s"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def fields_of(record: logging.LogRecord) -> dict[str, str | int | float | bool | None]:
    """What was said of an event besides its words, in the order it was said in."""
    plain = (str, int, float, bool, type(None))
    given = ((name, value) for name, value in vars(record).items() if name not in _STANDARD)
    return {name: value if isinstance(value, plain) else str(value) for name, value in given}


class Lines(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        # What peers and workloads say may be quoted in either: none of it makes a line of its own.
        line = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in super().formatMessage(record))
        return " ".join([line, *(f"{name}={_value(value)}" for name, value in fields_of(record).items())])


def _value(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') and text else json.dumps(text)


class JsonLines(logging.Formatter):
    """For machines: `time` (RFC 3339, UTC), `level`, `logger`, `message`, then what the event is about."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        found = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields_of(record) | found, ensure_ascii=False)


def configure(*, verbose: bool = False, as_json: bool = False) -> None:
    """Send our log lines to standard error; libraries speak from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("fondaco").setLevel(logging.DEBUG if verbose else logging.INFO)


def configure_quiet() -> None:
    """For commands: only what a person should know, and never a library's chatter."""
    configure()
    logging.getLogger("fondaco").setLevel(logging.WARNING)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
