"""Commands inside a workload: `exec` runs one, `shell` a shell."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import say
from fondaco.node.cli.talk import Target, at_lease, reached
from fondaco.node.cli.tenant import run

if TYPE_CHECKING:
    from fondaco.protocol.channel_exec import WindowSize

SHELL = ("sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
service_option = click.option(
    "--service", default="", help="Which service; the one open to the world unless given."
)
replica_option = click.option(
    "--replica", type=click.IntRange(min=0), default=0, help="Which of its replicas, from 0."
)


@click.command("exec")
@at_lease
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@service_option
@replica_option
@click.option("--env", "-e", multiple=True, metavar="NAME=VALUE", help="Over what the workload has.")
@click.option("--pty", "-t", is_flag=True, help="Run it on a terminal: this one, as it seems to the command.")
def exec_(
    target: Target, command: tuple[str, ...], service: str, replica: int, env: tuple[str, ...], pty: bool
) -> None:
    """Run COMMAND inside the workload, confined as that is, with standard input, output and errors.

    The exit code is the command's; 128 plus the signal that killed it. Ctrl-C reaches it; the second one ends it.
    """
    from fondaco.node.cli import terminal
    from fondaco.protocol.errors import Refused

    target, command = target.apart(*command)
    if not command:
        raise click.UsageError("Missing argument '-- COMMAND...'.")
    size = terminal.size() if pty else None
    if pty and size is None:
        raise Refused("exec.no_terminal", "standard input is no terminal", hint="leave --pty out")
    _finish(target, service, replica, command, _environment(env), size)


@click.command()
@at_lease
@service_option
@replica_option
@click.option(
    "--shell", "program", default="", metavar="PROGRAM", help="What to run; bash or else sh if not given."
)
def shell(target: Target, service: str, replica: int, program: str) -> None:
    """Open a shell inside the workload. Where standard input is no terminal, what comes on it is run."""
    from fondaco.node.cli import terminal

    size = terminal.size()
    if size is None:
        say("standard input is no terminal: what comes on it is run without one")
    _finish(target.required(), service, replica, (program,) if program else SHELL, {}, size)


def _environment(entries: tuple[str, ...]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in entries]
    if not all(name and equals for name, equals, _ in pairs):
        raise click.UsageError("--env takes NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _finish(
    target: Target,
    service: str,
    replica: int,
    command: tuple[str, ...],
    env: dict[str, str],
    size: WindowSize | None,
) -> None:
    code: int = run(_attach, target, service, replica, command, env, size)
    click.get_current_context().exit(code)


async def _attach(
    target: Target,
    service: str,
    replica: int,
    command: tuple[str, ...],
    env: dict[str, str],
    size: WindowSize | None,
) -> int:
    import os

    from fondaco.node.cli import terminal

    if size is not None:
        env = {"TERM": os.environ.get("TERM", "xterm"), **env}
    async with (
        reached(target) as lease,
        lease.exec(command, service=service, replica=replica, env=env, terminal=size) as running,
    ):
        with nullcontext() if size is None else terminal.raw():
            return await terminal.attach(running)
