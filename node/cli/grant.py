"""`fondaco grant`: letting others pay deposits from one's account."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import credits, json_option, print_json, tenant_home

if TYPE_CHECKING:
    from fondaco.protocol.messages import GrantSpending, RevokeSpending
    from fondaco.protocol.records import SpendingGrant
    from fondaco.protocol.scalars import PublicKey

HOUR_MS = 3_600_000
SCOPES = ("open", "deposit", "any")
grantee_argument = click.argument("grantee", metavar="GRANTEE")


@click.group()
def grant() -> None:
    """Let another account pay deposits from one's own, up to a limit, until some time.

    GRANTEE is its address. It says `fondaco deploy --payer ADDRESS` then; what is left comes back to the granter.
    """


@grant.command()
@grantee_argument
@click.option("--limit", type=click.IntRange(min=1), required=True, help="Ucredit that may be out at a time.")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="any",
    show_default=True,
    help="Opening deployments, paying into those there are, or both.",
)
@click.option(
    "--hours", type=click.IntRange(1, 8_784), default=720, show_default=True, help="How long, in block time."
)
@tenant_home
@json_option
def give(grantee: str, limit: int, scope: str, hours: int, home: Path, as_json: bool) -> None:
    """Grant, in place of what was granted before; money only moves when it is used."""
    from fondaco.node.cli.tenant import run

    run(_give, grantee, limit, scope, hours, home, as_json)


@grant.command()
@grantee_argument
@tenant_home
@json_option
def revoke(grantee: str, home: Path, as_json: bool) -> None:
    """End a grant. What it paid stays in its escrows, and comes back from there."""
    from fondaco.node.cli.tenant import run

    run(_revoke, grantee, home, as_json)


@grant.command()
@grantee_argument
@click.option("--granter", default="", help="Whose account; one's own unless given.")
@tenant_home
@json_option
def show(grantee: str, granter: str, home: Path, as_json: bool) -> None:
    """Show what GRANTEE may spend, proven."""
    from fondaco.node.cli.tenant import run

    run(_show, grantee, granter, home, as_json)


async def _give(grantee: str, limit: int, scope: str, hours: int, home: Path, as_json: bool) -> None:
    from fondaco.node import clock
    from fondaco.protocol import addresses
    from fondaco.protocol.messages import GrantSpending, Scope
    from fondaco.protocol.scalars import MicroCredits, Millis

    message = GrantSpending(
        grantee=addresses.decode(grantee),
        limit=MicroCredits(limit),
        scope=Scope[scope.upper()],
        expires_at=Millis(clock.now() + hours * HOUR_MS),
    )
    await _say(message, home, as_json)


async def _revoke(grantee: str, home: Path, as_json: bool) -> None:
    from fondaco.protocol import addresses
    from fondaco.protocol.messages import RevokeSpending

    await _say(RevokeSpending(grantee=addresses.decode(grantee)), home, as_json)


async def _say(message: GrantSpending | RevokeSpending, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import granting

    async with connected(home) as granter:
        height = await granter.wallet.transact(message)
        own = granter.wallet.signer.public_key
        found = await granting.grant(granter.light, own, message.grantee, at_least=height)
        await granter.light.cross_check()
    _finish({"height": height} | _plain(own, message.grantee, found), as_json)


async def _show(grantee: str, granter: str, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import granting
    from fondaco.protocol import addresses

    to = addresses.decode(grantee)
    async with connected(home) as tenant:
        whose = addresses.decode(granter) if granter else tenant.wallet.signer.public_key
        found = await granting.grant(tenant.light, whose, to)
        await tenant.light.cross_check()
    _finish(_plain(whose, to, found), as_json)


def _plain(granter: PublicKey, grantee: PublicKey, found: SpendingGrant | None) -> dict[str, Any]:
    from fondaco.node.cli.stake import _moment
    from fondaco.protocol import addresses

    told: dict[str, Any] = {"granter": addresses.encode(granter), "grantee": addresses.encode(grantee)}
    if found is None:
        return told | {"limit_ucredit": 0, "spent_ucredit": 0, "scope": None, "expires_at": None}
    return told | {
        "limit_ucredit": found.limit,
        "spent_ucredit": found.spent,
        "scope": found.scope.name.lower(),
        "expires_at": _moment(found.expires_at),
    }


def _finish(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    lines = [f"done in block {told['height']}"] if "height" in told else []
    if told["scope"] is None:
        lines.append(f"{told['grantee']} may spend nothing of {told['granter']}")
    else:
        spent, limit = credits(told["spent_ucredit"]), credits(told["limit_ucredit"])
        lines.append(f"{told['grantee']} may spend from {told['granter']}")
        lines.append(f"  {spent} of {limit} are out; for {told['scope']}, until {told['expires_at']}")
    click.echo("\n".join(lines))
