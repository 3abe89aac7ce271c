"""`fondaco keys`: the keys in a home. No secret is ever an argument: `ps` shows those to everybody."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli import completion
from fondaco.node.cli.output import home_option, json_option, print_json, say
from fondaco.node.cli.unlocking import passphrase_option, secret_file

if TYPE_CHECKING:
    from fondaco.node.keys.keystore import Key, KeyInfo

name_argument = click.argument("name", shell_complete=completion.keys)
new_passphrase_option = click.option(
    "--new-passphrase-file",
    type=secret_file,
    metavar="FILE",
    help="What protects it from now on: a file that only you can read, or - for standard input.",
)


@click.group()
def keys() -> None:
    """Create, back up, choose and list the keys of a home.

    Passphrases come from the first of these that is there: --passphrase-file, $FONDACO_PASSPHRASE, the file that
    $FONDACO_PASSPHRASE_FILE names, HOME/passphrase, and what is typed at the terminal, unseen.
    """


@keys.command("list")
@home_option
@json_option
def list_keys(home: Path, as_json: bool) -> None:
    """List the keys of a home with their addresses; * marks the one that is used where none is named."""
    from fondaco.node.keys.keystore import Keystore

    store = Keystore(home / "keys")
    found, default = store.list(), store.default()
    if as_json:
        print_json({"keys": [_brief(key) | {"default": key.name == default} for key in found]})
        return
    for key in found:
        click.echo(f"{'*' if key.name == default else ' '} {key.name:<12} {key.address}")
    if not found:
        click.echo(f"no keys in {home / 'keys'}: make one with `fondaco keys create NAME`")


@keys.command()
@click.argument("name")
@home_option
@passphrase_option
@json_option
def create(name: str, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a key and show the words that restore it."""
    from fondaco.node.cli.unlocking import new_passphrase
    from fondaco.node.keys.keystore import Keystore

    store = Keystore(home / "keys")
    store.check_free(name)
    key = store.create(name, new_passphrase(home, name, passphrase_file))
    if as_json:
        print_json(_brief(key) | {"words": key.words()})
        return
    click.echo(f"address  {key.address}\nwords    {key.words()}")
    click.echo("Write the words down: they are the only backup, and open the key without a passphrase.")


@keys.command()
@click.argument("name")
@home_option
@click.option(
    "--words-file",
    type=secret_file,
    metavar="FILE",
    help="The words that `keys create` showed: a file that only you can read, or - for standard input.",
)
@passphrase_option
@json_option
def restore(name: str, home: Path, words_file: Path | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a key again from its words, which are asked for unless a file has them."""
    from fondaco.node.cli.unlocking import ask_unseen, new_passphrase
    from fondaco.node.keys import passphrases
    from fondaco.node.keys.keystore import Keystore
    from fondaco.protocol.errors import Refused

    if words_file is not None and words_file == passphrase_file:
        raise click.UsageError("the words and the passphrase come from two files")
    store = Keystore(home / "keys")
    store.check_free(name)
    if words_file is not None:
        words = passphrases.read_secret(words_file)
    elif sys.stdin.isatty():
        words = ask_unseen("Words")
    else:
        raise Refused("keys.no_words_given", "there is nobody to ask for the words", hint="add --words-file FILE")
    key = store.restore(name, new_passphrase(home, name, passphrase_file), words)
    _finish(_brief(key), as_json, f"address  {key.address}")


@keys.command()
@name_argument
@home_option
@json_option
def show(name: str, home: Path, as_json: bool) -> None:
    """Show a key's address, kind and file."""
    from fondaco.node.keys.keystore import Keystore

    store = Keystore(home / "keys")
    key = store.info(name)
    told = {
        **_brief(key),
        "public_key": key.public_key.hex(),
        "kind": key.kind,
        "file": str(key.path),
        "default": store.default() == name,
    }
    _finish(told, as_json, "\n".join(f"{what:<12} {value}" for what, value in told.items()))


@keys.command()
@name_argument
@home_option
@passphrase_option
@json_option
def words(name: str, home: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show the words of a key again.

    The passphrase is asked for, whatever HOME/passphrase says, unless --passphrase-file or the environment has it.
    """
    from fondaco.node.cli.unlocking import opened

    key = opened(home, name, passphrase_file, by_home=False)
    found = key.words()
    _finish(_brief(key) | {"words": found}, as_json, found)


@keys.command()
@name_argument
@home_option
@passphrase_option
@new_passphrase_option
@json_option
def passphrase(
    name: str, home: Path, passphrase_file: Path | None, new_passphrase_file: Path | None, as_json: bool
) -> None:
    """Change the passphrase of a key. Copies of its file, and its words, keep opening it as before."""
    from fondaco.node.cli import unlocking
    from fondaco.node.keys import passphrases
    from fondaco.node.keys.keystore import Keystore

    if passphrase_file is not None and passphrase_file == new_passphrase_file == passphrases.STDIN:
        raise click.UsageError("only one of the two can come from standard input")
    key = unlocking.opened(home, name, passphrase_file)
    if new_passphrase_file is None:
        new = unlocking.ask(home, f"New passphrase for the key {name}", twice=True)
    else:
        new = passphrases.read_secret(new_passphrase_file)
    Keystore(home / "keys").protect(key, new)
    _finish(_brief(key), as_json, f"{name} has another passphrase")
    if (home / passphrases.FILE_NAME).exists():
        say(f"  {home / passphrases.FILE_NAME} opens it no longer, unless that holds the new one")


@keys.command()
@name_argument
@click.argument("new", metavar="NEW")
@home_option
@json_option
def rename(name: str, new: str, home: Path, as_json: bool) -> None:
    """Call a key otherwise; nothing else changes."""
    from fondaco.node.keys.keystore import Keystore
    from fondaco.node.keys.removing import check_unused

    check_unused(home, name)
    store = Keystore(home / "keys")
    store.rename(name, new)
    _finish(_brief(store.info(new)), as_json, f"{name} is {new} now")


@keys.command()
@name_argument
@home_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also if the node here works with it, or it may hold leases.")
@json_option
def remove(name: str, home: Path, yes: bool, force: bool, as_json: bool) -> None:
    """Delete a key's file. What it owns can only be had with its words, or a copy of the file."""
    from fondaco.node.cli.tenant import run
    from fondaco.node.keys.keystore import Keystore
    from fondaco.node.keys.removing import check_leases, check_unused
    from fondaco.protocol.errors import Refused

    store = Keystore(home / "keys")
    key = store.info(name)
    if not force:
        check_unused(home, name)
        run(check_leases, home, key)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise Refused(
                "keys.unconfirmed", f"there is nobody to ask whether to delete {name!r}", hint="add --yes"
            )
        say(f"{key.address}\nThis deletes {key.path}. Without its words or a copy what it owns is lost.")
        if click.prompt("Type the address to delete it", err=True) != key.address:
            raise Refused("keys.unconfirmed", "that is another address: nothing was deleted")
    store.remove(name)
    _finish(_brief(key), as_json, f"{name} is deleted")


@keys.command()
@name_argument
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@home_option
def export(name: str, file: Path, home: Path) -> None:
    """Write a copy of a key's file to FILE, encrypted as it is; - is standard output."""
    from fondaco.node.files import write_atomically
    from fondaco.node.keys import passphrases
    from fondaco.node.keys.keystore import Keystore
    from fondaco.protocol.errors import Refused

    data = Keystore(home / "keys").export(name)
    if file == passphrases.STDIN:
        click.echo(data, nl=False)
        return
    try:
        write_atomically(file, data, replace=False)
    except FileExistsError:
        raise Refused("keys.file", f"{file} is there already", hint="choose another name") from None
    except OSError as error:
        raise Refused("keys.file", f"{file}: {error.strerror}") from None
    say(f"{file} opens with the passphrase of {name}")


@keys.command("import")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@home_option
@json_option
def import_(name: str, file: Any, home: Path, as_json: bool) -> None:
    """Keep what `keys export` wrote to FILE under NAME; - is standard input."""
    from fondaco.node.keys.keystore import Keystore
    from fondaco.protocol import limits

    key = Keystore(home / "keys").import_file(name, file.read(limits.KEY_FILE_BYTES + 1))
    _finish(_brief(key), as_json, f"address  {key.address}")


@keys.command()
@name_argument
@home_option
@json_option
def use(name: str, home: Path, as_json: bool) -> None:
    """Use a key wherever neither --key nor $FONDACO_KEY names one."""
    from fondaco.node.keys.keystore import Keystore

    store = Keystore(home / "keys")
    store.use(name)
    _finish(_brief(store.info(name)), as_json, f"{name} is used where no key is named")


def _brief(key: Key | KeyInfo) -> dict[str, Any]:
    return {"name": key.name, "address": key.address}


def _finish(told: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(told)
    else:
        click.echo(text)
