"""What is wrong with an SDL file, where, and what to write instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fondaco.protocol import limits, spelling
from fondaco.protocol.errors import Refused

Path = tuple[str | int, ...]
"""From the top of the document: mapping keys and list positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend (or, as a warning, to know)."""

    code: str
    """Stable: `size.suffix`, `key.unknown`, `reference.profile`, ..."""
    path: str
    """`services.web.expose[0].port`; empty for the whole document."""
    line: int
    """From 1; 0 where no one place is to blame."""
    column: int
    """From 1, in characters."""
    message: str
    found: str = ""
    wanted: str = ""
    suggestion: str = ""

    def plain(self) -> dict[str, str | int]:
        """As JSON values, for programs."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}: " if self.line else ""
        where = f"{self.path}: " if self.path else ""
        return f"{place}{where}{self.message}" + (f" ({self.suggestion})" if self.suggestion else "")


class SdlError(Refused):
    """The file is not accepted; `problems` says why, in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        ordered = sorted(problems, key=lambda problem: (problem.line, problem.column))
        assert ordered, "an SDL error without a problem"
        first = ordered[0]
        more = f" and {len(ordered) - 1} more" if len(ordered) > 1 else ""
        super().__init__(f"sdl.{first.code}", f"{first}{more}", hint=first.suggestion)
        self.problems = tuple(ordered[: limits.SDL_PROBLEMS])


def show_path(path: Path) -> str:
    """`("services", "web", "expose", 0)` as `services.web.expose[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean "port"?` where something known is close to `name`, else nothing."""
    close = spelling.nearest(name, known)
    return f"did you mean {close!r}?" if close else ""


class Place(Protocol):
    """Whatever knows where it stands in the text."""

    line: int
    column: int


class Report:
    """Collects problems and warnings over one pass; the first word on a path stands."""

    def __init__(self) -> None:
        self._problems: dict[Path, Problem] = {}
        self._warnings: dict[Path, Problem] = {}

    def problem(
        self,
        code: str,
        place: Place,
        path: Path,
        message: str,
        *,
        found: str = "",
        wanted: str = "",
        suggestion: str = "",
        only_warn: bool = False,
    ) -> None:
        into = self._warnings if only_warn else self._problems
        if path in into or len(into) >= limits.SDL_PROBLEMS:
            return
        into[path] = Problem(
            code=code,
            path=show_path(path),
            line=place.line,
            column=place.column,
            message=message,
            found=found[:80],
            wanted=wanted,
            suggestion=suggestion,
        )

    def concerns(self, path: Path) -> bool:
        """Whether a problem is known at `path` or below it."""
        return any(known[: len(path)] == path for known in self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(sorted(self._warnings.values(), key=lambda problem: (problem.line, problem.column)))

    @property
    def failed(self) -> bool:
        return bool(self._problems)

    def raise_problems(self) -> None:
        """Raise `SdlError` if there is any problem."""
        if self._problems:
            raise SdlError(self._problems.values())
