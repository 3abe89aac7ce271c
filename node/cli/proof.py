"""Proofs to keep and to hand on: making them needs the network, checking them needs nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import home_option, json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.consensus.proof import HeaderId
    from fondaco.protocol.proof import RecordProof

KINDS = ("lease", "account", "provider", "attestation", "deployment", "param")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", metavar="ID")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file; standard output unless given.",
)
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=1),
    help="Begin with the header at this height, for readers who trust it rather than genesis.",
)
@home_option
@json_option
def proof(kind: str, name: str, output: Path | None, start: int | None, home: Path, as_json: bool) -> None:
    """Write one file that proves a record of the ledger, or its absence, to anybody offline.

    ID is a lease (its id, the start of it, or its deployment's name), a deployment's id, an address, two of them
    (PROVIDER/AUDITOR, for an attestation), or the name of a parameter. `fondaco verify` checks the file.
    """
    if output is None and (as_json or sys.stdout.isatty()):
        raise click.UsageError("a proof is not text: name a file with -o, or redirect standard output")
    from fondaco.node.cli.tenant import run

    run(_proof, kind, name, output, start, home, as_json)


async def _proof(kind: str, name: str, output: Path | None, start: int | None, home: Path, as_json: bool) -> None:
    from fondaco.node.chain import read_genesis
    from fondaco.node.tenant.connection import open_light
    from fondaco.protocol import codec

    key = _key(kind, name, home)
    async with open_light(home, read_genesis(home / "genesis.json")) as light:
        found = await light.prove(key, start=start)
        await light.cross_check()
    raw = codec.encode(found)
    if output is None:
        sys.stdout.buffer.write(raw)
        return
    _write(output, raw)
    if as_json:
        print_json(_summary(found) | {"file": str(output), "proof_bytes": len(raw)})
        return
    if found.value is None:
        say(f"there is no {kind} {name}: the file proves that")
    click.echo(f"{output}: {len(raw)} bytes, at height {found.path[-1].signed.header.height}")
    click.echo(f"  fondaco verify --trusted {home / 'genesis.json'} {output}")


def _key(kind: str, name: str, home: Path) -> bytes:
    """Leases may be named as everywhere else; what is no lease of this tenant's must be a whole id."""
    from fondaco.node.proof_file import key_of
    from fondaco.node.tenant import records
    from fondaco.protocol.errors import Refused

    if kind == "lease":
        try:
            _, found = records.find(home / "deployments", name)
        except Refused as error:
            if error.code != "lease.not_found":
                raise
        else:
            name = found.lease.hex()
    return key_of(kind, name)


def _write(path: Path, raw: bytes) -> None:
    from fondaco.protocol.errors import Refused

    try:
        path.write_bytes(raw)
    except OSError as error:
        raise Refused("proof.unwritable", f"{path}: {error.strerror}") from None


def _summary(found: RecordProof) -> dict[str, Any]:
    header = found.path[-1].signed.header
    return {
        "exists": found.value is not None,
        "height": header.height,
        "hash": header.hash().hex(),
        "begins_at": found.path[0].signed.header.height,
    }


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--trusted",
    metavar="HEIGHT:HASH|GENESIS",
    default="",
    help="What you trust: a header on the file's way, or the path of a genesis file.",
)
@json_option
def verify(file: Path, trusted: str, as_json: bool) -> None:
    """Check a proof FILE offline, from a header or a genesis that you trust, and show what it proves."""
    from fondaco.consensus.proof import verify_proof
    from fondaco.node import clock, proof_file
    from fondaco.protocol.errors import Refused

    if not trusted:
        raise Refused(
            "verify.no_anchor",
            "a proof proves nothing by itself: say what you trust",
            hint="--trusted HEIGHT:HASH from a source you trust, or --trusted GENESIS of a young chain",
        )
    raw = proof_file.read(file)
    proven = proof_file.describe(verify_proof(raw, proof_file.read_anchor(trusted), now=clock.now()))
    if as_json:
        print_json({"valid": True, **proven})
        return
    kind, identity, record = proven["kind"], proven["id"], proven["record"]
    click.echo(f"{kind} {identity}".rstrip() + ("" if proven["exists"] else ": there is none"))
    click.echo(f"  proven at height {proven['height']} of {proven['chain']}, time {proven['time_ms']}")
    for name, value in record.items() if isinstance(record, dict) else ():
        click.echo(f"  {name:<24} {value}")


@click.command()
@click.argument("header", metavar="[HEIGHT:HASH]", default="")
@home_option
@click.option("--nodes", is_flag=True, help="Show also how far each node is that was asked, and who was left out.")
@json_option
def trust(header: str, home: Path, nodes: bool, as_json: bool) -> None:
    """Show the newest header verified, or begin anew from one that you vouch for.

    That is needed where genesis is older than the trusting period. A header that contradicts what was trusted
    before is refused.
    """
    from fondaco.consensus.proof import parse_header_id
    from fondaco.node.cli.tenant import run

    run(_trust, parse_header_id(header) if header else None, home, as_json, nodes)


async def _trust(header: HeaderId | None, home: Path, as_json: bool, nodes: bool = False) -> None:
    from fondaco.consensus.ledger.params import Params
    from fondaco.node.chain import read_genesis
    from fondaco.node.cli.nodes import line, plain
    from fondaco.node.tenant.connection import open_light
    from fondaco.protocol.records import PARAMS

    async with open_light(home, read_genesis(home / "genesis.json"), trusted=header) as light:
        await light.record(PARAMS, Params)
        await light.cross_check()
        if nodes:
            await light.look_around()
        newest, standings = light.trusted, light.standings() if nodes else []
    if as_json:
        shown = {"height": newest.height, "hash": newest.hash.hex(), "time_ms": newest.time}
        print_json(shown | ({"nodes": [plain(one) for one in standings]} if nodes else {}))
    else:
        click.echo("\n".join([f"{newest.height}:{newest.hash.hex()}", *map(line, standings)]))
