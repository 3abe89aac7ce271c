"""The guards in front of the parser, and scalars as the reference's YAML library resolves them."""

from __future__ import annotations

import time

import pytest
from tests.support.workloads import SDL

from fondaco.protocol import limits
from fondaco.protocol.sdl import SdlError, parse
from fondaco.protocol.sdl.nodes import Sort, integer, load, resolve


def code(text: str | bytes) -> str:
    with pytest.raises(SdlError) as caught:
        load(text)
    (problem,) = caught.value.problems
    return problem.code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "yaml.syntax"),
        ("a: b: c", "yaml.syntax"),
        ("\x00", "yaml.syntax"),
        (b"\xff\xfe\xff", "yaml.encoding"),
        ("\ud800", "yaml.encoding"),
        ("a: 1\n---\nb: 2", "yaml.documents"),
        ("a: *nowhere", "yaml.alias"),
        ("a: &a [*a]", "yaml.alias"),
        ("x" * (limits.SDL_BYTES + 1), "yaml.too_large"),
        ("[" * 100_000, "yaml.too_deep"),
        ("- " * 100_000, "yaml.too_deep"),
        ("{a: " * 60_000, "yaml.too_deep"),
        ("[" + "a," * 60_000 + "]", "yaml.too_large"),
    ],
)
def test_what_cannot_be_read_is_refused_in_good_time(text: str | bytes, expected: str) -> None:
    assert code(text) == expected


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    began = time.thread_time()
    assert code("\n".join(lines)) == "yaml.too_large"
    assert time.thread_time() - began < 0.5


def test_aliases_count_towards_the_depth() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, limits.SDL_DEPTH)]
    assert code("\n".join(lines)) == "yaml.too_deep"


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("", Sort.NULL),
        ("~", Sort.NULL),
        ("NULL", Sort.NULL),
        ("true", Sort.BOOL),
        ("yes", Sort.TEXT),
        ("off", Sort.TEXT),
        ("80", Sort.INT),
        ("0x50", Sort.INT),
        ("0o17", Sort.INT),
        ("1_000", Sort.INT),
        ("-1", Sort.INT),
        ("08", Sort.FLOAT),
        ("1.5e3", Sort.FLOAT),
        (".5", Sort.FLOAT),
        (".inf", Sort.FLOAT),
        (".nan", Sort.FLOAT),
        ("1.2.3", Sort.TEXT),
        ("2024-01-01", Sort.TEXT),
        ("512Mi", Sort.TEXT),
        ("9" * 100, Sort.FLOAT),
        ("1e400", Sort.TEXT),
    ],
)
def test_plain_scalars_resolve_as_the_reference_does(text: str, sort: Sort) -> None:
    assert resolve(text) is sort


def test_integers_are_read_in_every_base() -> None:
    assert [integer(text) for text in ("0x10", "0o10", "010", "0b11", "-5", "+7", "1_0")] == [
        16,
        8,
        8,
        3,
        -5,
        7,
        10,
    ]
    assert integer(str(2**64)) is None


def test_quoted_scalars_and_tagged_ones_are_text() -> None:
    node = load("[80, '80', !!str 80, !!int 80]")
    assert [child.sort for child in node.children] == [Sort.INT, Sort.TEXT, Sort.TEXT, Sort.INT]


def test_merge_keys_fill_in_and_what_is_written_wins() -> None:
    node = load("base: &b {a: 1, b: 2}\nother: &o {b: 3, c: 4}\nx: {<<: [*b, *o], a: 9}")
    merged = next(value for name, _, value in node.entries() if name == "x")
    entries = {name: value.text for name, _, value in merged.entries()}
    assert entries == {"a": "9", "b": "2", "c": "4"}


def test_anchors_and_merges_do_in_a_real_file() -> None:
    text = SDL.replace("    small:\n", "    small: &small\n").replace(
        "  placement:", "    big:\n      <<: *small\n  placement:"
    )
    assert parse(text).version_hash == parse(SDL).version_hash


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse("\ufeff" + SDL).version_hash == parse(SDL.encode()).version_hash
