"""Opening a key for a command: which one, by which passphrase, asked without echo where there is a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import F, chosen_key, say

if TYPE_CHECKING:
    from fondaco.node.keys.keystore import Key

TRIES = 3
secret_file = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


def passphrase_option(function: F) -> F:
    """Where a command of `keys` takes the passphrase from; never its text, which `ps` would show to everybody."""
    return click.option(
        "--passphrase-file",
        type=secret_file,
        metavar="FILE",
        help="What protects the key: a file that only you can read, or - for standard input.",
    )(function)


def open_key(home: Path, name: str | None = None) -> Key:
    """The key of this name in a home; unless given, what the command line says, or else the home's default.

    Raises `Refused`: `genesis.missing` for what is no home, `keys.no_passphrase` where nobody can be asked, and
    what `Keystore.load` does.
    """
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.keys.keystore import Keystore

    if not (home / "genesis.json").exists():
        read_genesis(home / "genesis.json")  # says so, before anybody is asked for anything
    store = Keystore(home / "keys")
    chosen = name or chosen_key() or store.default()
    store.info(chosen)
    return opened(home, chosen)


def opened(home: Path, name: str, file: Path | None = None, *, by_home: bool = True) -> Key:
    """A key, opened by what `file` says, or the environment, or HOME/passphrase if `by_home`, or a person."""
    from fondaco.node.keys import passphrases
    from fondaco.node.keys.keystore import Keystore
    from fondaco.protocol.errors import Refused

    store = Keystore(home / "keys")
    if file is not None:
        return store.load(name, passphrases.read_secret(file))
    given = passphrases.find(home) if by_home or passphrases.is_given() else None
    if given is not None:
        try:
            return store.load(name, given)
        except Refused as error:
            if error.code != "keys.wrong_passphrase" or passphrases.is_given() or not sys.stdin.isatty():
                raise
    for left in reversed(range(TRIES)):
        try:
            return store.load(name, ask(home, f"Passphrase of the key {name}"))
        except Refused as error:
            if error.code != "keys.wrong_passphrase" or not left:
                raise
            say(error.message)
    raise AssertionError("the last try returns or raises")


def new_passphrase(home: Path, name: str, file: Path | None, *, by_home: bool = True) -> str:
    """What shall protect a key: as for `opened`; a person types it twice."""
    from fondaco.node.keys import passphrases

    if file is not None:
        return passphrases.read_secret(file)
    given = passphrases.find(home) if by_home else None
    return ask(home, f"New passphrase for the key {name}", twice=True) if given is None else given


def ask(home: Path, prompt: str, *, twice: bool = False) -> str:
    """A passphrase as it is typed, unseen. Raises `Refused` `keys.no_passphrase` where there is no terminal."""
    from fondaco.node.keys import passphrases

    if not sys.stdin.isatty():
        raise passphrases.none_for(home)
    return ask_unseen(prompt, twice=twice)


def ask_unseen(prompt: str, *, twice: bool = False) -> str:
    typed: str = click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=twice)
    return typed
