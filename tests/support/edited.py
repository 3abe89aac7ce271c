"""Files with the edits made that were proposed, as a person would make them with an editor."""

from __future__ import annotations

from collections.abc import Iterable

from fondaco.protocol.sdl.edits import Edit


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The file with each value replaced where the edit says that it is; each value stands on one line."""
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda one: (one.line, one.column), reverse=True):
        line = lines[edit.line - 1]
        before, after = line[: edit.column - 1], line[edit.column - 1 :]
        if edit.wanted:
            assert after.startswith(edit.found), (edit, line)
            lines[edit.line - 1] = before + edit.wanted + after[len(edit.found) :]
        else:
            assert edit.found in line, (edit, line)
            del lines[edit.line - 1]
    return "\n".join(lines)
