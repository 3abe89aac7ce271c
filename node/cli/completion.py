"""`fondaco completion`: what a shell needs to complete commands, options, and the names of deployments."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "fondaco", "_FONDACO_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete `fondaco`.

    For bash: eval "$(fondaco completion bash)" in ~/.bashrc; for zsh likewise in ~/.zshrc; for fish:
    fondaco completion fish > ~/.config/fish/completions/fondaco.fish
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows each of them"
    click.echo(made(context.find_root().command, {}, PROGRAM, VARIABLE).source())


def leases(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of deployments and services in the home that the command line names so far."""
    from fondaco.node.cli.output import default_home
    from fondaco.node.tenant import records, services
    from fondaco.protocol.errors import FondacoError

    home = Path(context.params.get("home") or default_home())
    try:
        found = records.load_all(home / "deployments")
        together = services.names(home)
    except FondacoError:
        return []
    names = sorted({*together, *(record.name for record in found)})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def keys(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the keys in the home that the command line names so far."""
    from fondaco.node.cli.output import default_home

    home = Path(context.params.get("home") or default_home())
    names = sorted(path.stem for path in (home / "keys").glob("*.key"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


lease_argument = click.argument("lease", metavar="LEASE", shell_complete=leases)
"""What every command that is about one lease takes."""
