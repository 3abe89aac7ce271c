"""The `fondaco` command.

Importing this loads nothing heavy: libp2p, FastAPI and SQLite are imported by the commands that need them,
when they run. Every command prints either for people or, with `--json`, one JSON object; never both mixed.
Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody reachable.
"""

from __future__ import annotations

import importlib
import sys

import click

from fondaco import __version__
from fondaco.node.groups import unwrapped
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.spelling import nearest

COMMANDS = {
    "demo": ("demo", "demo"),
    "testnet": ("testnet", "testnet"),
    "join": ("join", "join"),
    "deploy": ("tenant", "deploy"),
    "offers": ("offers", "offers"),
    "order": ("by_hand", "order"),
    "bids": ("by_hand", "bids"),
    "accept": ("by_hand", "accept"),
    "update": ("change", "update"),
    "replace": ("change", "replace"),
    "top-up": ("change", "top_up"),
    "status": ("talk", "status"),
    "logs": ("talk", "logs"),
    "usage": ("watch", "usage"),
    "events": ("watch", "events"),
    "request": ("talk", "request"),
    "forward": ("talk", "forward"),
    "route": ("service", "route"),
    "supervise": ("service", "supervise"),
    "exec": ("inside", "exec_"),
    "shell": ("inside", "shell"),
    "close": ("tenant", "close"),
    "token": ("token", "token"),
    "manifest": ("evidence", "manifest"),
    "attest": ("evidence", "attest"),
    "wallet": ("wallet", "wallet"),
    "budget": ("budget", "budget"),
    "grant": ("grant", "grant"),
    "proof": ("proof", "proof"),
    "verify": ("proof", "verify"),
    "trust": ("proof", "trust"),
    "stake": ("stake", "stake"),
    "latency": ("latency", "latency"),
    "provider": ("provider", "provider"),
    "image": ("image", "image"),
    "params": ("params", "params"),
    "gov": ("gov", "gov"),
    "template": ("template", "template"),
    "audit": ("audit", "audit"),
    "issuer": ("issuer", "issuer"),
    "keys": ("keys", "keys"),
    "node": ("node", "node"),
    "net": ("net", "net"),
    "genesis": ("genesis", "genesis"),
    "snapshot": ("snapshot", "snapshot"),
    "market": ("market", "market"),
    "why": ("market", "why"),
    "backtest": ("backtest", "backtest"),
    "sdl": ("sdl", "sdl"),
    "forensics": ("forensics", "forensics"),
    "simulate": ("simulate", "simulate"),
    "bench": ("bench", "bench"),
    "completion": ("completion", "completion"),
}
"""Command -> the module under `node.cli` that holds it, and its name there."""


PROBLEMS_SHOWN = 8


class Lazy(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"fondaco.node.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says which command was meant, where it was misspelt."""
        meant = nearest(args[0], COMMANDS) if args[0] not in COMMANDS else None
        if meant is not None and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Turn what is raised on purpose into one line and an exit code."""
        try:
            with unwrapped():
                return super().invoke(ctx)
        except FondacoError as error:
            _report(error)
            ctx.exit(error.exit_code)


def _report(error: FondacoError) -> None:
    """One line; where an SDL file has several problems, the others below it."""
    line = f"fondaco: {error.message} [{error.code}]"
    click.echo(line + (f"\n  try: {error.hint}" if error.hint else ""), err=True)
    _, *others = getattr(error, "problems", ()) or (None,)
    for other in others[:PROBLEMS_SHOWN]:
        click.echo(f"  also {other}", err=True)
    if len(others) > PROBLEMS_SHOWN:
        click.echo(f"  and {len(others) - PROBLEMS_SHOWN} more: fondaco sdl check FILE", err=True)


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fondaco")
def cli() -> None:
    """An open market for compute without a middleman.

    Start with `fondaco demo`, or `fondaco testnet up` and then `fondaco deploy FILE` in another terminal.
    """
    from fondaco.node.keys import passphrases

    passphrases.take()  # before anything is started that would inherit it


def main() -> None:
    """Entry point of the `fondaco` script."""
    sys.exit(cli(prog_name="fondaco"))
