"""`fondaco keys`: the keys in a home."""

from __future__ import annotations

from pathlib import Path

import click

from fondaco.node.cli.output import home_option, json_option, print_json


@click.group()
def keys() -> None:
    """Create, back up and list the keys of a home."""


@keys.command("list")
@home_option
@json_option
def list_keys(home: Path, as_json: bool) -> None:
    """List the keys of a home with their addresses."""
    from fondaco.node.keys.keystore import Keystore

    found = Keystore(home / "keys").list()
    if as_json:
        print_json({"keys": [{"name": key.name, "address": key.address} for key in found]})
        return
    for key in found:
        click.echo(f"{key.name:<12} {key.address}")
    if not found:
        click.echo(f"no keys in {home / 'keys'}: make one with `fondaco keys create NAME`")


@keys.command()
@click.argument("name")
@home_option
@click.password_option("--passphrase", envvar="FONDACO_PASSPHRASE", help="Protects the key on the disk.")
@json_option
def create(name: str, home: Path, passphrase: str, as_json: bool) -> None:
    """Make a key and show the words that restore it."""
    from fondaco.node.keys.keystore import Keystore

    key = Keystore(home / "keys").create(name, passphrase)
    if as_json:
        print_json({"name": name, "address": key.address, "words": key.words()})
        return
    click.echo(f"address  {key.address}\nwords    {key.words()}\nWrite the words down: they are the only backup.")


@keys.command()
@click.argument("name")
@home_option
@click.option("--words", prompt=True, hide_input=True, help="The words `keys create` showed.")
@click.password_option("--passphrase", envvar="FONDACO_PASSPHRASE", help="Protects the key on the disk.")
@json_option
def restore(name: str, home: Path, words: str, passphrase: str, as_json: bool) -> None:
    """Make a key again from its words."""
    from fondaco.node.keys.keystore import Keystore

    key = Keystore(home / "keys").restore(name, passphrase, words)
    if as_json:
        print_json({"name": name, "address": key.address})
        return
    click.echo(f"address  {key.address}")
