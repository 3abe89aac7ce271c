"""`fondaco template`: services that others may run, and what their authors get of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json, tenant_home

if TYPE_CHECKING:
    from fondaco.protocol.messages import ForkTemplate, RegisterTemplate
    from fondaco.protocol.records import Template
    from fondaco.protocol.scalars import TemplateId

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
title_option = click.option("--title", default="", help="What it is called; the file's name unless given.")
royalty_option = click.option(
    "--royalty",
    type=click.IntRange(0, 2_000),
    required=True,
    help="Basis points of what a lease pays that are the author's.",
)


@click.group()
def template() -> None:
    """Register services, and be paid a share of each lease that names them (`fondaco deploy --template`)."""


@template.command()
@file_argument
@royalty_option
@title_option
@tenant_home
@json_option
def register(file: Path, royalty: int, title: str, home: Path, as_json: bool) -> None:
    """Register FILE, an SDL file say, by its SHA-256; the ledger holds no more of it than that."""
    from fondaco.node.cli.tenant import run
    from fondaco.protocol.messages import RegisterTemplate

    message = RegisterTemplate(content=_digest(file), title=title or file.stem, royalty_basis_points=royalty)
    run(_publish, message, home, as_json)


@template.command()
@click.argument("parent", metavar="TEMPLATE")
@file_argument
@royalty_option
@title_option
@tenant_home
@json_option
def fork(parent: str, file: Path, royalty: int, title: str, home: Path, as_json: bool) -> None:
    """Register FILE as made of TEMPLATE, whose authors' royalties go on: 2,000 basis points in all at most."""
    from fondaco.node.cli.tenant import run
    from fondaco.protocol.messages import ForkTemplate

    message = ForkTemplate(
        parent=template_from(parent),
        content=_digest(file),
        title=title or file.stem,
        royalty_basis_points=royalty,
    )
    run(_publish, message, home, as_json)


async def _publish(message: RegisterTemplate | ForkTemplate, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import governing

    async with connected(home) as author:
        made = await governing.publish(author.wallet, message)
        await author.light.cross_check()
    _finish(made, as_json)


@template.command()
@click.argument("identity", metavar="TEMPLATE")
@home_option
@json_option
def show(identity: str, home: Path, as_json: bool) -> None:
    """Show a template, whom it pays, and how much; proven."""
    from fondaco.node.cli.tenant import run

    run(_show, template_from(identity), home, as_json)


async def _show(identity: TemplateId, home: Path, as_json: bool) -> None:
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant import governing
    from fondaco.node.tenant.connection import open_light

    async with open_light(home, read_genesis(home / "genesis.json")) as light:
        found = await governing.template(light, identity)
        await light.cross_check()
    _finish(found, as_json)


def template_from(text: str) -> TemplateId:
    """Read an id in hexadecimal. Raises wrong usage."""
    from fondaco.protocol.scalars import BOUNDS, TemplateId

    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != BOUNDS[TemplateId][0]:
        raise click.UsageError(f"{text!r} is no template's id: 64 hexadecimal digits")
    return TemplateId(raw)


def _digest(file: Path) -> Any:
    return hashlib.sha256(file.read_bytes()).digest()


def _finish(found: Template, as_json: bool) -> None:
    from fondaco.node.cli.stake import _moment
    from fondaco.protocol import addresses

    told = {
        "template": found.id.hex(),
        "title": found.title,
        "content": found.content.hex(),
        "parent": None if found.parent is None else found.parent.hex(),
        "registered_at": _moment(found.registered_at),
        "royalties": [
            {"author": addresses.encode(one.author), "basis_points": one.basis_points} for one in found.royalties
        ],
        "basis_points": found.basis_points,
    }
    if as_json:
        print_json(told)
        return
    click.echo(f"{told['template']}\n  {found.title}, registered {told['registered_at']}")
    click.echo(f"  content {told['content']}")
    for one in found.royalties:
        click.echo(f"  {addresses.encode(one.author)} gets {one.basis_points / 100:.2f} % of what a lease pays")
