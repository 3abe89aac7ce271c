"""`fondaco gov`: proposals and votes. Every figure shown is proven."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json, tenant_home

if TYPE_CHECKING:
    from fondaco.node.tenant.governing import Voted
    from fondaco.protocol.messages import Action
    from fondaco.protocol.records import Proposal

proposal_argument = click.argument("proposal", metavar="NUMBER", type=click.IntRange(min=1))
CHOICES = ("yes", "no", "abstain", "veto")
KINDS = ("params", "spend", "text", "end-authority")


@click.group()
def gov() -> None:
    """Propose what all shall decide, vote with bonded stake, and see what came of it."""


@gov.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("what", metavar="[WHAT...]", nargs=-1)
@click.option("--title", required=True, help="What it is about, in a few words.")
@click.option("--text", required=True, help="Why.")
@click.option("--deposit", type=click.IntRange(min=0), help="Ucredit held until it ends; the least unless given.")
@tenant_home
@json_option
def propose(
    kind: str,
    what: tuple[str, ...],
    title: str,
    text: str,
    deposit: int | None,
    home: Path,
    as_json: bool,
) -> None:
    """Put something to the vote.

    params NAME=VALUE... changes parameters; spend ADDRESS UCREDIT [USTAKE] pays from the community pool; text is
    decided and nothing else; end-authority takes the parameters out of the hands of the key that genesis names.
    """
    from fondaco.node.cli.tenant import run

    run(_propose, _action(kind, what), title, text, deposit, home, as_json)


async def _propose(action: Action, title: str, text: str, deposit: int | None, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import governing

    async with connected(home) as citizen:
        made = await governing.propose(citizen.wallet, action, title=title, text=text, deposit=deposit)
        await citizen.light.cross_check()
    _finish(_plain(made), as_json)


@gov.command()
@proposal_argument
@click.argument("choice", type=click.Choice(CHOICES))
@tenant_home
@json_option
def vote(proposal: int, choice: str, home: Path, as_json: bool) -> None:
    """Say yes, no, abstain or veto, with the stake that the key has bonded since before the proposal was made.

    The word may be changed until the vote ends; until then the stake stays bonded.
    """
    from fondaco.node.cli.tenant import run
    from fondaco.protocol.messages import Choice

    run(_vote, proposal, Choice[choice.upper()], home, as_json)


async def _vote(proposal: int, choice: Any, home: Path, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import governing

    async with connected(home) as voter:
        found = await governing.vote(voter.wallet, proposal, choice)
        await voter.light.cross_check()
    _finish(_with_ballot(found), as_json)


@gov.command()
@proposal_argument
@home_option
@json_option
def show(proposal: int, home: Path, as_json: bool) -> None:
    """Show one proposal and how its votes stand."""
    from fondaco.node.cli.tenant import run

    run(_show, proposal, home, as_json)


async def _show(proposal: int, home: Path, as_json: bool) -> None:
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant import governing
    from fondaco.node.tenant.connection import open_light

    async with open_light(home, read_genesis(home / "genesis.json")) as light:
        found = await governing.proposal(light, proposal)
        await light.cross_check()
    _finish(_with_ballot(found), as_json)


@gov.command("list")
@home_option
@json_option
def list_(home: Path, as_json: bool) -> None:
    """List the proposals that the ledger keeps, the newest first; it forgets them a week after their end."""
    from fondaco.node.cli.tenant import run

    run(_list, home, as_json)


async def _list(home: Path, as_json: bool) -> None:
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant import governing
    from fondaco.node.tenant.connection import open_light

    async with open_light(home, read_genesis(home / "genesis.json")) as light:
        found = [_plain(one) for one in await governing.proposals(light)]
        await light.cross_check()
    if as_json:
        print_json({"proposals": found})
        return
    for one in found:
        click.echo(f"{one['number']:>4}  {one['state']:<10}  {one['ends_at']}  {one['title']}")
    if not found:
        click.echo("nothing was proposed lately: fondaco gov propose")


def _action(kind: str, what: tuple[str, ...]) -> Action:
    """Raises wrong usage, or `Refused` for values that no chain takes."""
    from fondaco.node.cli.params import values_of
    from fondaco.protocol import addresses
    from fondaco.protocol.messages import ChangeParameters, EndAuthority, Grant, ParameterChange, Resolution
    from fondaco.protocol.scalars import MicroCredits, MicroStake

    if kind == "params":
        if not what:
            raise click.UsageError("params needs NAME=VALUE...")
        values = values_of(what)
        return ChangeParameters(
            changes=tuple(ParameterChange(name=name, value=values[name]) for name in sorted(values))
        )
    if kind == "spend":
        amounts = [int(one) for one in what[1:] if one.isascii() and one.isdigit()]
        if not 2 <= len(what) <= 3 or len(amounts) != len(what) - 1:
            raise click.UsageError("spend needs ADDRESS UCREDIT, and USTAKE where slashed stake is granted")
        stake = amounts[1] if len(amounts) == 2 else 0
        return Grant(to=addresses.decode(what[0]), credits=MicroCredits(amounts[0]), stake=MicroStake(stake))
    if what:
        raise click.UsageError(f"{kind} takes nothing else")
    return Resolution() if kind == "text" else EndAuthority()


def _with_ballot(found: Voted) -> dict[str, Any]:
    told = _plain(found.proposal)
    if found.ballot is not None and found.ballot.choice is not None:
        told |= {"your_vote": found.ballot.choice.name.lower(), "your_weight_ustake": found.ballot.weight}
    return told


def _plain(one: Proposal) -> dict[str, Any]:
    from fondaco.consensus.ledger.governance import decide
    from fondaco.node.cli.stake import _moment
    from fondaco.protocol import addresses
    from fondaco.protocol.records import ProposalState

    return {
        "number": one.number,
        "title": one.title,
        "text": one.text,
        "action": _told(one.action),
        "state": one.state.name.lower(),
        "as_it_stands": decide(one).name.lower() if one.state == ProposalState.VOTING else None,
        "proposer": addresses.encode(one.proposer),
        "deposit_ucredit": one.deposit,
        "ends_at": _moment(one.ends_at),
        "electorate_ustake": one.electorate,
        "votes_ustake": {choice: getattr(one.tally, choice) for choice in CHOICES},
        "quorum_basis_points": one.quorum_basis_points,
        "threshold_basis_points": one.threshold_basis_points,
        "veto_basis_points": one.veto_basis_points,
    }


def _told(action: Action) -> str:
    from fondaco.protocol import addresses
    from fondaco.protocol.messages import ChangeParameters, Grant, Resolution

    match action:
        case ChangeParameters(changes=changes):
            return "params " + " ".join(f"{one.name}={one.value}" for one in changes)
        case Grant(to=to, credits=credits, stake=stake):
            return f"spend {addresses.encode(to)} {credits} ucredit, {stake} ustake"
        case Resolution():
            return "text"
        case _:
            return "end-authority"


def _finish(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    click.echo(f"proposal {told['number']}: {told['title']}")
    click.echo(f"  {told['text']}")
    click.echo(f"  {told['action']}")
    stands = f", as it stands: {told['as_it_stands']}" if told["as_it_stands"] else ""
    click.echo(f"  {told['state']}{stands}; votes until {told['ends_at']}")
    votes = ", ".join(f"{choice} {told['votes_ustake'][choice]}" for choice in CHOICES)
    click.echo(f"  {votes} of {told['electorate_ustake']} ustake")
    if "your_vote" in told:
        click.echo(f"  you say {told['your_vote']} with {told['your_weight_ustake']} ustake")
