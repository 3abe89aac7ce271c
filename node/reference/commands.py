"""docs/reference/commands.md, generated from the commands themselves, so that it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from fondaco.node.cli import cli
from fondaco.node.reference import COMMAND

INTRODUCTION = f"""# Commands

Written by `{COMMAND}`; every command shows the same with `--help`.

Progress and errors go to standard error; an error is one line, `fondaco: message [code]`, and what to try next.
Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody reachable. With `--json` a command prints one JSON object,
or one a line where its text says so.
"""


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ("fondaco",)
) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it, in the order the help lists them."""
    with click.Context(group, info_name=" ".join(path)) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, f"{name} is listed"
            if isinstance(command, click.Group):
                if command.invoke_without_command:
                    yield " ".join((*path, name)), command
                yield from commands(command, (*path, name))
            else:
                yield " ".join((*path, name)), command


def commands_page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(_section(name, command) for name, command in commands())])


def _section(name: str, command: click.Command) -> str:
    """One command: its usage, what it does, and a table of its options."""
    with click.Context(command, info_name=name) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        lines = [f"## {name}", "", f"    {name} {usage}", "", _paragraphs(command.help or ""), ""]
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        records = [found for option in options if (found := option.get_help_record(context)) is not None]
    if records:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(meaning)} |" for option, meaning in records]
        lines.append("")
    return "\n".join(lines)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
