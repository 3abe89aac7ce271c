"""The answer: a chain of steps, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened, or was said."""

    what: str
    """Which kind: `order`, `bid`, `decline`, `transaction`, `block`, `event`, `outcome`, `left_out`."""
    text: str
    """In a sentence."""
    time_ms: int | None = None
    """Block time; of what was heard, this node's clock."""
    height: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """Ids, signatures, numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    kind: str
    id: str
    text: str
    """What it is, and how it stands, in a sentence."""
    steps: tuple[Step, ...]


def as_text(answer: Answer) -> str:
    """For people: a line a step, its facts below."""
    lines = [f"{answer.kind} {answer.id}", f"  {answer.text}", ""]
    for step in answer.steps:
        where = "" if step.height is None else f"height {step.height}"
        lines.append(f"{_moment(step.time_ms):<25}{where:<15}{step.text}")
        lines += [f"{'':<40}{name}: {_value(value)}" for name, value in step.facts.items()]
    return "\n".join(lines)


def _moment(time_ms: int | None) -> str:
    if time_ms is None:
        return ""
    at = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
