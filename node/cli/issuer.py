"""`fondaco issuer`: making and destroying credits, under the key that a chain's genesis names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fondaco.node.cli.output import credits, home_option, json_option, print_json

if TYPE_CHECKING:
    from fondaco.protocol.messages import Burn, Mint

key_option = click.option("--key", default="issuer", show_default=True, help="The key in HOME that genesis names.")
amount_argument = click.argument("amount", metavar="UCREDIT", type=click.IntRange(min=1))


@click.group()
def issuer() -> None:
    """Mint and burn credits, as the issuer that the chain's genesis names."""


@issuer.command()
@amount_argument
@click.argument("to", metavar="ADDRESS")
@home_option
@key_option
@json_option
def mint(amount: int, to: str, home: Path, key: str, as_json: bool) -> None:
    """Make UCREDIT millionths of a credit and give them to ADDRESS."""
    from fondaco.protocol import addresses
    from fondaco.protocol.messages import Mint
    from fondaco.protocol.scalars import MicroCredits

    _run(Mint(to=addresses.decode(to), amount=MicroCredits(amount)), home, key, as_json)


@issuer.command()
@amount_argument
@home_option
@key_option
@json_option
def burn(amount: int, home: Path, key: str, as_json: bool) -> None:
    """Destroy UCREDIT millionths of a credit of the issuer's own."""
    from fondaco.protocol.messages import Burn
    from fondaco.protocol.scalars import MicroCredits

    _run(Burn(amount=MicroCredits(amount)), home, key, as_json)


def _run(message: Mint | Burn, home: Path, key: str, as_json: bool) -> None:
    from fondaco.node.cli.tenant import run

    run(_issue, message, home, key, as_json)


async def _issue(message: Mint | Burn, home: Path, key: str, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.issuing import issue

    async with connected(home, key) as tenant:
        height, supply = await issue(tenant.wallet, message)
        account = await tenant.wallet.account(at_least=height)
        await tenant.light.cross_check()
    if as_json:
        print_json({"height": height, "supply_ucredit": supply.credits, "own_ucredit": account.credits})
    else:
        click.echo(
            f"done in block {height}: there are {credits(supply.credits)}, {credits(account.credits)} of them here"
        )
