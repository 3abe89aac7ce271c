"""The stack definition language: `parse` reads a file into a `Stack`.

text -> `nodes` (YAML with lines) -> `read` (decoded `document`) -> `check` and `shape` (problems) -> `build`.
"""

from fondaco.protocol.sdl.problems import Problem, SdlError
from fondaco.protocol.sdl.stack import Mode, Stack, max_price_per_hour, parse

__all__ = ["Mode", "Problem", "SdlError", "Stack", "max_price_per_hour", "parse"]
