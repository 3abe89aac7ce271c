"""`fondaco image`: the images that a provider has, beside its node or without it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import json_option, print_json, progress
from fondaco.node.cli.provider_trial import provider_home

if TYPE_CHECKING:
    from fondaco.node.config import NodeConfig
    from fondaco.provider.images.cache import ImageCache, Item


@click.group()
def image() -> None:
    """Pull images for a provider ahead of its tenants, see what it has, and remove it.

    All of it works beside the provider's node, running or not. What a workload is of is never removed.
    """


@image.command()
@click.argument("reference")
@provider_home
@json_option
def pull(reference: str, home: Path, as_json: bool) -> None:
    """Pull the image that REFERENCE names, as for a tenant who gives no credentials.

    Progress goes to standard error.
    """
    from fondaco.node.cli.tenant import run as at_once

    at_once(_pull, reference, home, as_json)


async def _pull(reference: str, home: Path, as_json: bool) -> None:
    from contextlib import aclosing

    from fondaco.node.runtime_settings import open_runtime

    settings = _settings(home)
    assert settings.provider is not None, "checked there"
    async with aclosing(open_runtime(settings.provider, settings.provider_home)) as runtime:
        found = await runtime.prepare(reference, report=progress("bytes pulled:"))
    told = {"reference": reference, "digest": found.digest, "path": found.rootfs}
    if as_json:
        print_json(told)
    else:
        click.echo(f"{reference} is {found.digest}")


@image.command()
@provider_home
@json_option
def ls(home: Path, as_json: bool) -> None:
    """List what is here, what was used last first: images, and what was downloaded for them."""
    cache = _cache(home)
    items, used = cache.items()[::-1], cache.in_use()
    images = [{**_row(item), "in_use": item.path.name in used} for item in items if item.is_image]
    told = {
        "images": images,
        "downloads_bytes": sum(item.size_bytes for item in items if not item.is_image),
        "total_bytes": sum(item.size_bytes for item in items),
        "cap_bytes": cache.cap_bytes,
    }
    if as_json:
        print_json(told)
        return
    for row in images:
        names = ", ".join(row["references"]) or "(no name)"
        kind = " private" if row["private"] else ""
        held = " in use" if row["in_use"] else ""
        click.echo(
            f"{row['digest'][:19]:<19}  {row['size_bytes']:>14,} bytes  {row['used_at']}  {names}{kind}{held}"
        )
    click.echo(
        f"{told['total_bytes']:,} of {cache.cap_bytes:,} bytes, {told['downloads_bytes']:,} of them downloads"
    )


@image.command()
@click.argument("names", nargs=-1, required=True, metavar="REFERENCE|DIGEST...")
@provider_home
@json_option
def rm(names: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Remove images by a name that `ls` shows, or by digest.

    What was downloaded for them stays for other images that share it; `prune` removes that too.
    """
    from fondaco.protocol.errors import Refused

    cache = _cache(home)
    removed = []
    for name in names:
        found = [item for item in cache.items() if item.record is not None and _is_named(item, name)]
        if not found:
            raise Refused("image.not_found", f"there is no image {name} here", hint="fondaco image ls")
        for item in found:
            if not cache.remove(item):
                raise Refused("image.in_use", f"a workload is of {name}", hint="it can go when its leases end")
            removed.append(item)
    _tell(removed, as_json)


@image.command()
@provider_home
@click.option(
    "--to", "to_bytes", type=click.IntRange(min=0), default=0, show_default=True, help="Keep so many bytes."
)
@json_option
def prune(home: Path, to_bytes: int, as_json: bool) -> None:
    """Remove everything that is not in use, what was used longest ago first, and what killed pulls left behind."""
    from fondaco.provider.runtimes.embedded import open_cache

    cache = open_cache(_runtime_home(_settings(home)), to_bytes)
    before = cache.items()
    cache.sweep()
    cache.make_room(0)  # also while somebody unpacks, when nothing is swept
    left = {item.path for item in cache.items()}
    _tell([item for item in before if item.path not in left], as_json)


def _tell(removed: Sequence[Item], as_json: bool) -> None:
    rows = [_row(item) for item in removed if item.is_image]
    freed_bytes = sum(item.size_bytes for item in removed)
    if as_json:
        print_json({"removed": rows, "freed_bytes": freed_bytes})
        return
    for row in rows:
        click.echo(f"removed {', '.join(row['references']) or row['digest']}")
    click.echo(f"{freed_bytes:,} bytes are free again")


def _row(item: Item) -> dict[str, Any]:
    record = item.record
    return {
        "digest": f"sha256:{item.path.name}" if record is None else record.digest,
        "references": [] if record is None else list(record.references),
        "size_bytes": item.size_bytes,
        "used_at": datetime.fromtimestamp(item.used_at, UTC).isoformat(timespec="seconds"),
        "private": record is not None and not record.shared,
    }


def _is_named(item: Item, name: str) -> bool:
    from fondaco.provider.images.references import DIGEST, parse_reference

    assert item.record is not None, "only images that are known have names"
    if DIGEST.fullmatch(name):
        return item.record.digest == name
    return str(parse_reference(name)) in item.record.references


def _cache(home: Path) -> ImageCache:
    from fondaco.provider.runtimes.embedded import open_cache

    settings = _settings(home)
    assert settings.provider is not None, "checked there"
    return open_cache(_runtime_home(settings), settings.provider.image_cache_bytes)


def _runtime_home(settings: NodeConfig) -> Path:
    from fondaco.node.runtime_settings import RUNTIME

    return settings.provider_home / RUNTIME


def _settings(home: Path) -> NodeConfig:
    """Raises `Refused` `provider.none`."""
    from fondaco.node import config
    from fondaco.protocol.errors import Refused

    settings = config.load(home)
    if settings.provider is None:
        raise Refused("provider.none", f"{home} is no provider's", hint="is --home right?")
    return settings
