"""`fondaco audit`: what auditors say of providers, looked at, said and taken back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json

if TYPE_CHECKING:
    from fondaco.node.tenant.auditing import Standing
    from fondaco.protocol.records import Attestation

DAY_MS = 86_400_000
provider_argument = click.argument("provider", metavar="PROVIDER")
key_option = click.option(
    "--key", default="auditor", show_default=True, help="Which key of the home speaks as the auditor."
)


@click.group()
def audit() -> None:
    """Confirm what providers state of themselves, take it back, and see what others confirm.

    PROVIDER is its address; an auditor may also be named as SDL files name it.
    """


@audit.command()
@provider_argument
@click.option("--auditor", "auditors", multiple=True, help="Look for this auditor's word, too; may be repeated.")
@home_option
@json_option
def show(provider: str, auditors: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Show what is confirmed of PROVIDER and until when; each word is proven.

    Nodes tell who has spoken. A node could keep silent about somebody: name him, and his word is proven, or its
    absence.
    """
    from fondaco.node.cli.tenant import run

    run(_show, provider, auditors, home, as_json)


async def _show(provider: str, auditors: tuple[str, ...], home: Path, as_json: bool) -> None:
    from fondaco.node.genesis_file import read_genesis
    from fondaco.node.tenant.auditing import auditor_of, local_aliases, standing
    from fondaco.node.tenant.connection import open_light
    from fondaco.protocol import addresses

    genesis = read_genesis(home / "genesis.json")
    aliases = dict((*genesis.auditors, *local_aliases(home)))
    key, named = addresses.decode(provider), [auditor_of(one, aliases) for one in auditors]
    async with open_light(home, genesis) as light:
        found = await standing(light, key, auditors=named)
        await light.cross_check()
    _finish(_plain(found), as_json)


@audit.command()
@provider_argument
@click.argument("attributes", metavar="[KEY=VALUE...]", nargs=-1)
@click.option(
    "--days", type=click.IntRange(1, 366), default=90, show_default=True, help="How long it holds, in block time."
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A file whose SHA-256 goes on the ledger; the provider's record as proven unless given.",
)
@home_option
@key_option
@json_option
def attest(
    provider: str,
    attributes: tuple[str, ...],
    days: int,
    evidence: Path | None,
    home: Path,
    key: str,
    as_json: bool,
) -> None:
    """Confirm attributes that PROVIDER states, with these values; all of them unless some are given.

    It replaces what this auditor said before, and dies with the value: when the provider states another, and after
    DAYS.
    """
    from fondaco.node.cli.tenant import run

    digest = None if evidence is None else hashlib.sha256(evidence.read_bytes()).digest()
    run(_attest, provider, _attributes(attributes), days, digest, home, key, as_json)


async def _attest(
    provider: str,
    attributes: dict[str, str],
    days: int,
    evidence: bytes | None,
    home: Path,
    key: str,
    as_json: bool,
) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.auditing import attestation, say, standing
    from fondaco.protocol import addresses
    from fondaco.protocol.scalars import Hash

    subject = addresses.decode(provider)
    async with connected(home, key) as auditor:
        own, light = auditor.wallet.signer.public_key, auditor.light
        digest = None if evidence is None else Hash(evidence)
        message = await attestation(light, subject, attributes=attributes, life_ms=days * DAY_MS, evidence=digest)
        height = await say(auditor.wallet, message)
        found = await standing(light, subject, auditors=[own], at_least=height)
        await light.cross_check()
    _finish({"height": height} | _plain(found), as_json)


@audit.command()
@provider_argument
@click.option(
    "--auditor", default="", help="Whose word, where a provider refuses to be spoken of; else one's own."
)
@home_option
@key_option
@json_option
def revoke(provider: str, auditor: str, home: Path, key: str, as_json: bool) -> None:
    """End what an auditor confirms of PROVIDER: as the auditor, or, with --auditor, as the provider itself."""
    from fondaco.node.cli.tenant import run

    run(_revoke, provider, auditor, home, key, as_json)


async def _revoke(provider: str, auditor: str, home: Path, key: str, as_json: bool) -> None:
    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant import auditing
    from fondaco.protocol import addresses

    subject = addresses.decode(provider)
    async with connected(home, key) as sender:
        whose = auditing.auditor_of(auditor, sender.aliases()) if auditor else sender.wallet.signer.public_key
        height = await auditing.revoke(sender.wallet, subject, whose)
        found = await auditing.standing(sender.light, subject, auditors=[whose], at_least=height)
        await sender.light.cross_check()
    _finish({"height": height} | _plain(found), as_json)


def _attributes(given: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{one!r} is not KEY=VALUE")
        if key in values:
            raise click.UsageError(f"{key} is given twice")
        values[key] = value
    return values


def _plain(found: Standing) -> dict[str, Any]:
    from fondaco.protocol import addresses

    return {
        "provider": addresses.encode(found.provider.key),
        "attributes": {one.key: one.value for one in found.provider.attributes},
        "attestations": [_said(found, one) for one in found.said],
    }


def _said(found: Standing, said: Attestation) -> dict[str, Any]:
    from fondaco.node.cli.stake import _moment
    from fondaco.protocol import addresses

    return {
        "auditor": addresses.encode(said.auditor),
        "holds": found.holds(said),
        "attributes": {one.key: one.value for one in said.attributes},
        "attested_at": _moment(said.attested_at),
        "expires_at": _moment(said.expires_at),
        "evidence": said.evidence.hex(),
    }


def _finish(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(_lines(told)))


def _lines(told: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"done in block {told['height']}"] if "height" in told else []
    lines += [told["provider"], f"  states {_pairs(told['attributes'])}"]
    if not told["attestations"]:
        lines.append("  no auditor confirms anything")
    for one in told["attestations"]:
        until = f"until {one['expires_at']}" if one["holds"] else f"expired {one['expires_at']}"
        lines += [
            f"  {one['auditor']}, {until}",
            f"    confirms {_pairs(one['attributes'])}",
            f"    evidence {one['evidence']}",
        ]
    return lines


def _pairs(attributes: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in attributes.items()) or "nothing"
