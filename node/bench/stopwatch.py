"""Where the time of a piece of work goes, part by part."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Stopwatch:
    """Seconds by part. A part that runs within another counts for itself alone: the parts add up to the whole.

    It costs about half a microsecond a call, so what is to be told as a whole is measured without it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def timed(self, name: str, function: F) -> F:
        """`function`, with its time counted as `name`."""

        def run(*arguments: Any, **named: Any) -> Any:
            self._enter(name)
            try:
                return function(*arguments, **named)
            finally:
                self._leave()

        return run  # type: ignore[return-value]  # it takes and gives what `function` does

    @contextmanager
    def watching(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """Within: each (owner, attribute, part) is timed, wherever it is called from."""
        before = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in places]
        for owner, attribute, name in places:
            setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))
        try:
            yield
        finally:
            for owner, attribute, function in before:
                setattr(owner, attribute, function)

    def _enter(self, name: str) -> None:
        now = time.perf_counter()
        if self._inside:
            self.seconds[self._inside[-1]] += now - self._since
        self._inside.append(name)
        self._since = now

    def _leave(self) -> None:
        now = time.perf_counter()
        self.seconds[self._inside.pop()] += now - self._since
        self._since = now
