"""Real SDL files, and the same files after an accident."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from tests.support.fixtures import SHARED
from tests.support.workloads import SDL

from fondaco.protocol.sdl import Mode, SdlError, Stack, parse
from fondaco.protocol.sdl.nodes import Node, Sort, integer

_FOLDER = SHARED / "fixtures" / "sdl"
FILES = (SDL, *(path.read_text() for path in sorted(_FOLDER.glob("**/*.y*ml")) if "schema" not in path.name))
SNIPPETS = st.sampled_from(
    [
        *(": ", "- ", "\n", "  ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "null", "~", "0", "-1", "1e400"),
        *(".inf", "true", '""', "!!int ", "!x ", "'", '"', "|\n", "99999999999999999999", "512mi", "\t", "#"),
        *("? ", "akash1x", "/../", "\x85", "\u2028"),
    ]
)


KEYS = st.sampled_from(
    [
        *(
            "port",
            "as",
            "proto",
            "to",
            "accept",
            "http_options",
            "global",
            "ip",
            "service",
            "image",
            "command",
            "args",
        ),
        *("env", "expose", "params", "storage", "permissions", "tee", "credentials", "mount", "readOnly", "count"),
        *(
            "cpu",
            "memory",
            "gpu",
            "units",
            "size",
            "attributes",
            "class",
            "persistent",
            "name",
            "vendor",
            "nvidia",
        ),
        *("model", "ram", "interface", "signedBy", "allOf", "anyOf", "pricing", "denom", "amount", "profile"),
        *("endpoints", "kind", "version", "include", "reclamation", "min_window", "dependencies", "next_cases"),
    ]
)
VALUES = st.sampled_from(
    [
        *(
            "1",
            "0",
            "-1",
            "1.0",
            "1.5",
            '"1"',
            "yes",
            "true",
            '"true"',
            "null",
            "{}",
            "[]",
            "[a]",
            "[1]",
            "{a: b}",
        ),
        *(
            "100m",
            "1Gi",
            "1e3",
            "ram",
            "beta2",
            "/data",
            "sxm",
            "uakt",
            "cpu",
            "cpu-gpu",
            "off",
            "1h",
            "tcp",
            ".5",
        ),
        *("2001-01-01", "0x10", "0o7", "~", "''", "08", "ip", "{global: true}", "[{global: true}]", "[off]"),
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


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        lines = text.split("\n")
        place = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("insert", "cut", "drop", "repeat", "move", "value", "key"))):
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
                lines[place] = key + colon + " " + draw(SNIPPETS | VALUES | st.text(max_size=10))
            case "key":
                indent = len(lines[place]) - len(lines[place].lstrip(" -"))
                lines.insert(place, " " * indent + draw(KEYS) + ": " + draw(VALUES))
        text = "\n".join(lines) or "\n"
    return text


class NotJson(ValueError):
    """The reference turns the file into JSON first, which not every YAML file is."""


def to_json(node: Node) -> Any:
    match node.sort:
        case Sort.NULL:
            return None
        case Sort.BOOL:
            return node.text in ("true", "True", "TRUE")
        case Sort.INT:
            return integer(node.text)
        case Sort.FLOAT:
            if node.text[-1] in "fFnN":
                raise NotJson
            return float(node.text.replace("_", ""))
        case Sort.LIST:
            return [to_json(child) for child in node.children]
        case Sort.MAP:
            entries = node.entries()
            if node.duplicates or any(key.sort is not Sort.TEXT for _, key, _ in entries):
                raise NotJson
            return {name: to_json(value) for name, _, value in entries}
        case _:
            return node.text
