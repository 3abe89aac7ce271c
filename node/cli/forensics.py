"""`fondaco forensics`: who broke its word, by what the nodes wrote down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.output import json_option, print_json, say

if TYPE_CHECKING:
    from fondaco.consensus.forensics import Finding
    from fondaco.protocol.agreement import Vote
    from fondaco.protocol.evidence import Evidence


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--genesis",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Of the chain; homes of nodes bring theirs. Without a chain database its validators are taken.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write each piece of evidence to, as a file that a node takes in from DATA/evidence.",
)
@json_option
@click.pass_context
def forensics(
    context: click.Context, paths: tuple[Path, ...], genesis: Path | None, output: Path | None, as_json: bool
) -> None:
    """Find validators that misbehaved, in what nodes wrote down.

    PATHS are homes of nodes (or of a whole test network), journals, and the .fork files of light clients. They
    are only read. Where a height was decided twice this names more than a third of the power, each culprit with
    the two signed statements that convict it, if the journals of the honest validators are among them.

    Exit code 0: nothing was found; 1: somebody misbehaved.
    """
    from contextlib import ExitStack

    from fondaco.node.transcripts import investigate, open_sources

    with ExitStack() as closing:
        sources = open_sources(paths, genesis, closing)
        findings = investigate(sources)
    for warning in sources.warnings:
        say(warning)
    if output is not None:
        _write(findings, output)
    if as_json:
        print_json({"findings": [_plain(finding) for finding in findings], "warnings": sources.warnings})
    else:
        click.echo("\n".join(line for finding in findings for line in _told(finding)) or "nothing was found")
    context.exit(1 if findings else 0)


def _write(findings: list[Finding], output: Path) -> None:
    from fondaco.node.agreement.evidence_pool import SUFFIX
    from fondaco.node.files import write_atomically
    from fondaco.protocol import codec
    from fondaco.protocol.evidence import evidence_hash

    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    for evidence in (one for finding in findings for culprit in finding.culprits for one in culprit.evidence):
        raw = codec.encode(evidence)
        write_atomically(output / f"{evidence_hash(raw).hex()}{SUFFIX}", raw)


def _plain(finding: Finding) -> dict[str, Any]:
    from fondaco.protocol import addresses, codec
    from fondaco.protocol.evidence import evidence_hash

    return {
        "height": finding.height,
        "disagreement": finding.disagreement,
        "power": finding.total,
        "convicted": finding.convicted,
        "accounted_for": finding.accounted_for,
        "decisions": [
            {
                "round": decision.round,
                "value": decision.value.hex(),
                "signers": [addresses.encode(key) for key in decision.signers],
            }
            for decision in finding.decisions
        ],
        "culprits": [
            {
                "validator": addresses.encode(culprit.validator),
                "power": culprit.power,
                "evidence": [
                    {
                        "kind": type(evidence).__name__,
                        "hash": evidence_hash(raw).hex(),
                        "says": _evidence(evidence),
                        "bytes": raw.hex(),
                    }
                    for evidence in culprit.evidence
                    for raw in (codec.encode(evidence),)
                ],
            }
            for culprit in finding.culprits
        ],
        "unexplained": [
            {"validator": addresses.encode(one.validator), "vote": _vote(one.vote), "polka": one.polka}
            for one in finding.unexplained
        ],
    }


def _told(finding: Finding) -> list[str]:
    """One height, for people."""
    from fondaco.protocol import addresses

    lines = [f"height {finding.height}: " + ("DECIDED TWICE" if finding.disagreement else "misbehaviour")]
    for decision in finding.decisions if finding.disagreement else ():
        lines.append(f"  {decision.value.hex()[:16]} in round {decision.round}")
    for culprit in finding.culprits:
        lines.append(f"  {addresses.encode(culprit.validator)}, power {culprit.power} of {finding.total}")
        lines += [f"    {_evidence(evidence)}" for evidence in culprit.evidence]
    for one in finding.unexplained:
        lines.append(f"  not explained, {addresses.encode(one.validator)}: {_vote(one.vote)}")
        lines.append(f"    rests on a polka of round {one.polka} that nobody here shows: ask for its journal")
    if finding.disagreement and not finding.accounted_for:
        lines.append(
            "  these are not all: more than a third must have misbehaved; add journals of other validators"
        )
    return lines


def _evidence(evidence: Evidence) -> str:
    from fondaco.protocol.evidence import Amnesia, DuplicateVote

    match evidence:
        case DuplicateVote():
            return f"voted twice: {_vote(evidence.first.vote)}, and {_vote(evidence.second.vote)}"
        case Amnesia():
            return f"forgot its {_vote(evidence.precommit.vote)} in its {_vote(evidence.prevote.vote)}"
        case _:
            return f"signed the header {evidence.conflicting.header.hash().hex()[:16]} beside the chain's own"


def _vote(vote: Vote) -> str:
    what = "nil" if vote.value is None else vote.value.hex()[:16]
    polka = "" if vote.valid_round is None else f", by the polka of round {vote.valid_round}"
    return f"{vote.kind.name.lower()} of {what} in round {vote.round}{polka}"
