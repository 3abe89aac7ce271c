"""Whatever is done to a file, the parser answers: a stack or problems, soon, and never a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sdl_files import attempt, explained, mutated

from fondaco.protocol import manifest
from fondaco.protocol.sdl import Mode, SdlError


def judge(text: str, mode: Mode) -> None:
    began = time.thread_time()
    stack = attempt(text, mode)
    assert time.thread_time() - began < 1.0
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
@pytest.mark.timeout(400)
@settings(max_examples=10_000)
@given(text=mutated(), mode=st.sampled_from(Mode))
def test_many_mutated_files_are_accepted_or_explained(text: str, mode: Mode) -> None:
    judge(text, mode)


@given(text=mutated())
def test_what_strict_mode_accepts_go_mode_accepts_alike(text: str) -> None:
    strict, go = attempt(text, Mode.STRICT), attempt(text, Mode.GO)
    assert strict is None or (go is not None and go.version_hash == strict.version_hash)


HOSTILE = """
import sys, time
from pathlib import Path
from fondaco.protocol.sdl import SdlError, parse

texts = [
    "[" * 100_000,
    "{a: " * 60_000,
    "- " * 120_000,
    "b0: &b0 [x]\\n" + "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\\n" for n in range(1, 40)),
    "services: " + "{a: {<<: *x}, " * 10_000,
    "x: '" + "'" * 250_000,
    "? " * 100_000,
    "%YAML 1.2\\n---\\n" * 15_000,
    "a: |\\n" + " \\n" * 120_000,
    "".join(f"k{n}: v\\n" for n in range(25_000)),
    "services:\\n" + "".join(f"  {'s' * 60}{n}: {{imag: x}}\\n" for n in range(3_000)),
    "\\x85" * 120_000,
]
slowest = 0.0
for text in texts:
    began = time.process_time()
    try:
        parse(text)
    except SdlError:
        pass
    slowest = max(slowest, time.process_time() - began)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(slowest, int(status["VmHWM"].split()[0]) // 1_024)  # what `ru_maxrss` says began with our parent
"""


def test_what_was_written_to_hurt_takes_neither_a_second_nor_two_hundred_megabytes() -> None:
    plainly = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, check=True, text=True, env=plainly)
    slowest_s, most_mib = done.stdout.split()
    assert float(slowest_s) < 1.0
    assert int(most_mib) < 200
