"""`fondaco token`: letting others use a lease, as far and as long as its tenant says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.completion import lease_argument
from fondaco.node.cli.output import json_option, moment, print_json, tenant_home
from fondaco.node.cli.tenant import connected, run

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.sharing import Token

HOUR_MS = 3_600_000
READ = "status,logs,events,usage"


@click.group()
def token() -> None:
    """Let a colleague or a machine use a lease: which methods, until when, and for nobody but the holder of a key.

    The file that `create` writes goes to the holder, whose commands take it as --token FILE.
    """


@token.command()
@lease_argument
@click.option("--for", "holder", metavar="ADDRESS", required=True, help="Whose key may use it; see `keys list`.")
@click.option(
    "--scope",
    "scopes",
    metavar="SCOPES",
    multiple=True,
    default=(READ,),
    show_default=True,
    help="Methods, by commas: also exec, forward, get_manifest, put_manifest, attestation; exec:SERVICE or "
    "forward:SERVICE:PORT for less.",
)
@click.option(
    "--hours", type=click.IntRange(1, 744), default=8, show_default=True, help="How long, in block time."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it, for the holder.")
@tenant_home
@json_option
def create(
    lease: str, holder: str, scopes: tuple[str, ...], hours: int, out: Path | None, home: Path, as_json: bool
) -> None:
    """Make a token for LEASE, and keep a copy of it in the home."""
    run(_create, lease, holder, scopes, hours, out, home, as_json)


@token.command("list")
@click.argument("lease", metavar="[LEASE]", default="")
@tenant_home
@json_option
def list_tokens(lease: str, home: Path, as_json: bool) -> None:
    """List the tokens that were made here, for LEASE or for all."""
    run(_list, lease, home, as_json)


@token.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@tenant_home
@json_option
def show(file: Path, home: Path, as_json: bool) -> None:
    """Show what the token in FILE lets through, checked against the ledger; not whether it was revoked."""
    run(_show, file, home, as_json)


@token.command()
@lease_argument
@click.argument("tokens", metavar="[TOKEN]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were ever made for it, wherever they are.")
@tenant_home
@json_option
def revoke(lease: str, tokens: tuple[str, ...], everything: bool, home: Path, as_json: bool) -> None:
    """Have the provider take tokens of LEASE no more; calls by them are cut off at once.

    TOKEN is the start of a token's id.
    """
    if bool(tokens) == everything:
        raise click.UsageError("name tokens, or give --all")
    run(_revoke, lease, tokens, everything, home, as_json)


async def _create(
    text: str, holder: str, scopes: tuple[str, ...], hours: int, out: Path | None, home: Path, as_json: bool
) -> None:
    from fondaco.node.tenant import sharing
    from fondaco.protocol import addresses

    names = [name for words in scopes for name in words.split(",") if name]
    async with connected(home) as tenant:
        made = sharing.issue(tenant.find(text), addresses.decode(holder), names, life_ms=hours * HOUR_MS)
        file = home / "tokens" / f"{made.id.hex()}.json"
        if out is not None:
            sharing.save(out, made)
            file = out
        told = _plain(tenant, made) | {"file": str(file)}
    if as_json:
        print_json(told)
        return
    click.echo(_line(told))
    click.echo(f"for the holder: {file}\n  fondaco status --token {file}")


async def _list(text: str, home: Path, as_json: bool) -> None:
    from fondaco.node.tenant import sharing

    async with connected(home) as tenant:
        only = tenant.find(text).place.lease if text else None
        found = [one for one in sharing.issued(tenant) if only in (None, one.capability.lease)]
        rows = [_plain(tenant, one) for one in found]
    if as_json:
        print_json({"tokens": rows})
        return
    for row in rows:
        click.echo(_line(row))
    if not rows:
        click.echo("no tokens: fondaco token create LEASE --for ADDRESS")


async def _show(file: Path, home: Path, as_json: bool) -> None:
    from fondaco.node.tenant import sharing
    from fondaco.protocol import addresses

    found = sharing.load(file)
    async with connected(home) as tenant:
        record = await sharing.verify(tenant, found)
        told = _plain(tenant, found) | {
            "tenant": addresses.encode(record.tenant),
            "provider": addresses.encode(record.provider),
            "lease_state": record.state.name.lower(),
        }
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        click.echo(f"{key:<12} {', '.join(value) if isinstance(value, list) else value}")


async def _revoke(text: str, tokens: tuple[str, ...], everything: bool, home: Path, as_json: bool) -> None:
    from fondaco.node.tenant import sharing

    async with connected(home) as tenant:
        lease = tenant.find(text)
        chosen = [sharing.find(tenant, one) for one in tokens]
        done = await sharing.revoke(lease, chosen, everything=everything)
    told = {
        "lease": lease.id,
        "revoked": [one.id.hex() for one in chosen],
        "all": everything,
        "calls_ended": done.calls_ended,
    }
    if as_json:
        print_json(told)
        return
    what = "all tokens" if everything else f"{len(chosen)} tokens" if len(chosen) > 1 else "the token"
    click.echo(f"{what} of lease {lease.id[:12]} revoked, {done.calls_ended} open calls cut off")


def _plain(tenant: Tenant, token: Token) -> dict[str, Any]:
    from fondaco.node import clock
    from fondaco.protocol import addresses

    capability = token.capability
    expired = capability.expires_at <= max(clock.now(), tenant.light.trusted_time)
    return {
        "token": token.id.hex(),
        "name": token.name,
        "lease": capability.lease.hex(),
        "holder": addresses.encode(capability.holder),
        "scopes": [str(scope) for scope in capability.scopes],
        "issued": moment(capability.issued_at),
        "expires": moment(capability.expires_at),
        "state": "revoked" if token.revoked else "expired" if expired else "valid",
    }


def _line(row: dict[str, Any]) -> str:
    first = f"{row['token'][:12]}  {row['name']:<12} {row['state']:<8} until {row['expires']}"
    return f"{first}  {','.join(row['scopes'])}\n              for {row['holder']}"
