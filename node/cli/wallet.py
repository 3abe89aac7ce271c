"""`fondaco wallet`: what a key owns, and sending of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fondaco.node.cli.output import credits, json_option, print_json, say, tenant_home
from fondaco.node.cli.tenant import connected, run

if TYPE_CHECKING:
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.sending import Intent, Sent


@click.group(invoke_without_command=True)
@tenant_home
@click.option("--faucet", is_flag=True, help="Ask the chain's faucet first, where it has one.")
@json_option
@click.pass_context
def wallet(context: click.Context, home: Path, faucet: bool, as_json: bool) -> None:
    """Show a key's address and what it owns, proven; or send of it."""
    if context.invoked_subcommand is None:
        run(_show, home, faucet, as_json)
        return
    given = [one for one in context.params if context.get_parameter_source(one) is ParameterSource.COMMANDLINE]
    if given or context.get_parameter_source("key") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"options of `{context.invoked_subcommand}` come after it")


@wallet.command()
@click.argument("address", metavar="ADDRESS")
@click.argument("amount", metavar="AMOUNT")
@tenant_home
@click.option("--yes", is_flag=True, help="Do not ask before it is sent.")
@click.option(
    "--forget-unsure",
    is_flag=True,
    help="Send even though nobody knows what became of a transfer that was begun before.",
)
@json_option
def send(address: str, amount: str, home: Path, yes: bool, forget_unsure: bool, as_json: bool) -> None:
    """Send AMOUNT to ADDRESS: 2.5credits, or 2500000ucredit.

    It says what it would do and asks, unless --yes; without a terminal --yes is needed. After a crash the same
    command finds out what became of the transfer, and sends nothing twice.
    """
    from fondaco.node.tenant.amounts import parse_amount
    from fondaco.protocol import addresses
    from fondaco.protocol.errors import Refused

    to, ucredit = addresses.decode(address), parse_amount(amount)
    if not yes and (as_json or not sys.stdin.isatty()):
        raise Refused("wallet.unconfirmed", "there is nobody to ask whether to send", hint="add --yes")
    run(_send, home, to, ucredit, not yes, forget_unsure, as_json)


async def _show(home: Path, faucet: bool, as_json: bool) -> None:
    from fondaco.node.tenant import owning

    async with connected(home) as tenant:
        if faucet:
            await tenant.wallet.ask_faucet()
        account = await tenant.wallet.account()
        told = {
            "address": tenant.address,
            "key": owning.label(home, tenant.wallet.signer.public_key),
            "ucredit": account.credits,
            "ustake": account.stake,
        }
    if as_json:
        print_json(told)
    else:
        click.echo(f"{tenant.address}\n{credits(account.credits)}")


async def _send(home: Path, to: Any, amount: Any, ask: bool, forget_unsure: bool, as_json: bool) -> None:
    from fondaco.node.tenant import sending

    async with connected(home) as tenant:
        before = await _settle(tenant, home, forget_unsure)
        if before is not None and (before.to, before.amount) == (to, amount):
            _told(tenant, before, as_json)
            return
        intent = await sending.intend(tenant.wallet, to, amount)
        say(_plan(tenant, intent))
        if ask:
            click.confirm("Send?", abort=True, err=True)
        sent = await sending.send(tenant.wallet, home, intent)
        _told(tenant, sent, as_json)


async def _settle(tenant: Tenant, home: Path, forget_unsure: bool) -> Sent | None:
    """What was begun before, if it came about."""
    from fondaco.node.tenant import sending
    from fondaco.protocol.errors import Refused

    try:
        found = await sending.settle(tenant.wallet, home)
    except Refused as error:
        if error.code != "wallet.unsure" or not forget_unsure:
            raise
        sending.drop(home, tenant.wallet.signer.public_key)
        return None
    if found is not None:
        say(f"  before     {_line(found)}")
    return found


def _plan(tenant: Tenant, intent: Intent) -> str:
    from fondaco.protocol import addresses

    return (
        f"  from       {tenant.address}\n"
        f"  to         {addresses.encode(intent.to)}\n"
        f"  amount     {credits(intent.amount)}\n"
        f"  fee        {credits(intent.fee)}\n"
        f"  left       {credits(intent.left)}"
    )


def _line(sent: Sent) -> str:
    from fondaco.protocol import addresses

    return f"{credits(sent.amount)} were sent to {addresses.encode(sent.to)} in block {sent.height}"


def _told(tenant: Tenant, sent: Sent, as_json: bool) -> None:
    from fondaco.protocol import addresses

    if as_json:
        print_json(
            {
                "from": tenant.address,
                "to": addresses.encode(sent.to),
                "ucredit": sent.amount,
                "height": sent.height,
                "sent_before": sent.again,
                "left_ucredit": sent.left.credits,
                "receiver_ucredit": sent.received.credits,
            }
        )
        return
    if sent.again:
        click.echo("that transfer was begun before, and nothing was sent a second time")
    click.echo(f"{_line(sent)}\n{credits(sent.left.credits)} are left")
