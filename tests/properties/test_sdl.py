"""Whatever is done to a file, the parser answers: a stack or problems, soon, and never a crash."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.fixtures import SHARED
from tests.support.workloads import SDL

from fondaco.protocol import manifest
from fondaco.protocol.sdl import Mode, SdlError, Stack, parse

_FOLDER = SHARED / "fixtures" / "sdl"
FILES = (SDL, *(path.read_text() for path in sorted(_FOLDER.glob("**/*.y*ml")) if "schema" not in path.name))
SNIPPETS = st.sampled_from(
    [
        *(": ", "- ", "\n", "  ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "null", "~", "0", "-1", "1e400"),
        *(".inf", "true", '""', "!!int ", "!x ", "'", '"', "|\n", "99999999999999999999", "512mi", "\t", "#"),
        *("? ", "akash1x", "/../", "\x85", "\u2028"),
    ]
)


def attempt(text: str, mode: Mode) -> Stack | None:
    try:
        return parse(text, mode=mode)
    except SdlError as error:
        explained(error)
        return None


def explained(error: SdlError) -> None:
    assert error.problems
    assert all(problem.code and problem.message and problem.line >= 0 for problem in error.problems)


def judge(text: str, mode: Mode) -> None:
    began = time.perf_counter()
    stack = attempt(text, mode)
    assert time.perf_counter() - began < 1.0
    if stack is None:
        return
    assert manifest.parse(manifest.to_json(stack.manifest)) == stack.manifest
    assert len(stack.groups_sha256) == 32
    try:
        groups = stack.groups({})
    except SdlError as error:
        explained(error)
        return
    for group, part in zip(groups, stack.manifest, strict=True):
        manifest.check_against(group, part)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        lines = text.split("\n")
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("insert", "cut", "drop", "repeat", "move", "value"))):
            case "insert":
                column = draw(st.integers(0, len(lines[place])))
                lines[place] = lines[place][:column] + draw(SNIPPETS) + lines[place][column:]
            case "cut":
                column = draw(st.integers(0, len(lines[place])))
                lines[place] = lines[place][:column] + lines[place][column + draw(st.integers(1, 4)) :]
            case "drop":
                del lines[place]
            case "repeat":
                lines.insert(place, lines[place])
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(place))
            case "value":
                key, colon, _ = lines[place].partition(":")
                lines[place] = key + colon + " " + draw(SNIPPETS | st.text(max_size=10))
        text = "\n".join(lines) or "\n"
    return text


@settings(max_examples=300)
@given(text=mutated(), mode=st.sampled_from(Mode))
def test_a_mutated_file_is_accepted_or_explained(text: str, mode: Mode) -> None:
    judge(text, mode)


@given(text=st.text(max_size=200), mode=st.sampled_from(Mode))
def test_any_text_at_all_is_answered(text: str, mode: Mode) -> None:
    judge(text, mode)


@pytest.mark.heavy
@settings(max_examples=10_000)
@given(text=mutated(), mode=st.sampled_from(Mode))
def test_many_mutated_files_are_accepted_or_explained(text: str, mode: Mode) -> None:
    judge(text, mode)


@given(text=mutated())
def test_what_strict_mode_accepts_go_mode_accepts_alike(text: str) -> None:
    strict, go = attempt(text, Mode.STRICT), attempt(text, Mode.GO)
    assert strict is None or (go is not None and go.version_hash == strict.version_hash)
