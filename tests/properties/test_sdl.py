"""Whatever is done to a file, the parser answers: a stack or problems, soon, and never a crash."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sdl_files import attempt, explained, mutated

from fondaco.protocol import manifest
from fondaco.protocol.sdl import Mode, SdlError


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
