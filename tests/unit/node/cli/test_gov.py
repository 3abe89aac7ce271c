"""What is refused before it is sent, how proposals and templates read; the rest needs a network (e2e)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fondaco.node.cli import cli, gov, template
from fondaco.node.tenant.governing import Voted
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import ChangeParameters, Choice, EndAuthority, Grant, ParameterChange, Resolution
from fondaco.protocol.records import Ballot, Proposal, ProposalState, Royalty, Tally, Template
from fondaco.protocol.scalars import Hash, MicroCredits, MicroStake, Millis, ProposalNumber, PublicKey, TemplateId

KEY = PublicKey(bytes(range(32)))
ADDRESS = addresses.encode(KEY)
PROPOSAL = Proposal(
    number=ProposalNumber(3),
    proposer=KEY,
    title="cheaper",
    text="fees are high",
    action=ChangeParameters(changes=(ParameterChange(name="fee_base", value=7),)),
    deposit=MicroCredits(10),
    made_at=Millis(0),
    ends_at=Millis(1_000),
    electorate=MicroStake(100),
    quorum_basis_points=3_000,
    threshold_basis_points=5_000,
    veto_basis_points=3_000,
    tally=Tally(yes=MicroStake(40), no=MicroStake(1), abstain=MicroStake(2), veto=MicroStake(3)),
    state=ProposalState.VOTING,
    due_at=Millis(1_000),
)


def test_what_is_proposed_is_read_from_words() -> None:
    assert gov._action("params", ("grace_ms=5", "fee_base=7")) == ChangeParameters(
        changes=(ParameterChange(name="fee_base", value=7), ParameterChange(name="grace_ms", value=5))
    )
    assert gov._action("spend", (ADDRESS, "5")) == Grant(to=KEY, credits=MicroCredits(5), stake=MicroStake(0))
    assert gov._action("spend", (ADDRESS, "0", "9")) == Grant(to=KEY, credits=MicroCredits(0), stake=MicroStake(9))
    assert gov._action("text", ()) == Resolution()
    assert gov._action("end-authority", ()) == EndAuthority()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("params", ()),
        ("params", ("fee_base",)),
        ("spend", (ADDRESS,)),
        ("spend", (ADDRESS, "-1")),
        ("spend", (ADDRESS, "1", "2", "3")),
        ("text", ("more",)),
        ("end-authority", ("now",)),
    ],
)
def test_wrong_words_are_wrong_usage(kind: str, what: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        gov._action(kind, what)


def test_values_that_no_chain_takes_are_refused_at_home() -> None:
    with pytest.raises(Refused) as caught:
        gov._action("params", ("nonsense=1",))
    assert caught.value.code == "params.value"


def test_a_proposal_reads_as_people_speak(capsys: pytest.CaptureFixture[str]) -> None:
    ballot = Ballot(proposal=ProposalNumber(3), voter=KEY, weight=MicroStake(40), choice=Choice.YES)
    gov._finish(gov._with_ballot(Voted(proposal=PROPOSAL, ballot=ballot)), False)
    assert capsys.readouterr().out.splitlines() == [
        "proposal 3: cheaper",
        "  fees are high",
        "  params fee_base=7",
        "  voting, as it stands: passed; votes until 1970-01-01T00:00:01Z",
        "  yes 40, no 1, abstain 2, veto 3 of 100 ustake",
        "  you say yes with 40 ustake",
    ]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Grant(to=KEY, credits=MicroCredits(5), stake=MicroStake(6)), f"spend {ADDRESS} 5 ucredit, 6 ustake"),
        (Resolution(), "text"),
        (EndAuthority(), "end-authority"),
    ],
)
def test_what_has_ended_says_what_it_was(action: Grant | Resolution | EndAuthority, words: str) -> None:
    ended = replace(PROPOSAL, action=action, state=ProposalState.REJECTED)
    told = gov._with_ballot(Voted(proposal=ended, ballot=None))
    assert (told["action"], told["state"], told["as_it_stands"]) == (words, "rejected", None)
    assert "your_vote" not in told


def test_a_template_reads_as_people_speak(capsys: pytest.CaptureFixture[str]) -> None:
    found = Template(
        id=TemplateId(b"\x01" * 32),
        content=Hash(b"\x02" * 32),
        title="an inn",
        parent=None,
        royalties=(Royalty(author=KEY, basis_points=250),),
        registered_at=Millis(0),
    )
    template._finish(found, False)
    assert f"{ADDRESS} gets 2.50 % of what a lease pays" in capsys.readouterr().out


@pytest.mark.parametrize("identity", ["", "zz", "01" * 31])
def test_what_is_no_templates_id_is_wrong_usage(identity: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["template", "show", identity, "--home", str(tmp_path)])
    assert result.exit_code == 2
