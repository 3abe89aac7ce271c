"""`fondaco forensics` over real files: homes of nodes whose chains differ, journals torn and damaged, forks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.chains import Town, stored

from fondaco.consensus.journal_entries import HeightEntry, MessageEntry
from fondaco.consensus.validators import ValidatorSet
from fondaco.node.agreement.evidence_pool import EvidencePool, judge_by
from fondaco.node.agreement.journal import Journal
from fondaco.node.cli import cli
from fondaco.node.storage import ChainStore
from fondaco.protocol import addresses, codec
from fondaco.protocol.agreement import (
    Block,
    CommitCertificate,
    SignedHeader,
    SignedVote,
    Validator,
    Vote,
    VoteKind,
)
from fondaco.protocol.errors import Refused
from fondaco.protocol.light import Fork, LightBlock
from fondaco.protocol.scalars import Hash, Height, Millis, Round

HEIGHT = Height(3)
Files = dict[Path, bytes]


class Broken:
    """Two nodes whose chains part at `HEIGHT`: a value in round 0, another in round 1, two validators for both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.town = Town("alice", "bob", validators=4)
        self.homes = [folder / "nodes" / name for name in ("one", "other")]
        chains = []
        for home in self.homes:
            (home / "data").mkdir(parents=True)
            (home / "genesis.json").write_text(json.dumps(self.town.genesis.to_json()))
            chains.append(self.town.open(home / "data" / "chain.db"))
        for _ in range(2):
            self.town.grow(chains[0])
        self.town.copy(*chains)
        self.validators: ValidatorSet = chains[0].ledger.validators
        self.blocks: list[Block] = []
        for side, chain in enumerate(chains):
            signers = ((0, 1, 2), (1, 2, 3))[side]
            block = self.town.propose_on(chain, at=chain.head.time + 1_000 + side)
            self.blocks.append(block)
            certificate = self.certificate(block, signers, side)
            prevotes = [self.vote(VoteKind.PREVOTE, one, block.header.hash(), side) for one in signers]
            self.journal(side, HEIGHT, [*prevotes, certificate])
            chain.commit(block, certificate)
            self.town.grow(chain, at=chain.head.time + 1_000 + side)
            chain.close()

    def vote(self, kind: VoteKind, who: int, value: Hash, round: int) -> SignedVote:
        vote = Vote(kind=kind, height=HEIGHT, round=Round(round), value=value, valid_round=None)
        key = self.validators.members[who].public_key
        return SignedVote(vote=vote, validator=key, signature=self.town.keys[key].sign(self.town.chain, vote))

    def certificate(self, block: Block, signers: Iterable[int], round: int) -> CommitCertificate:
        value = block.header.hash()
        votes = {who: self.vote(VoteKind.PRECOMMIT, who, value, round).signature for who in signers}
        places = tuple(votes.get(who) for who in range(4))
        return CommitCertificate(height=HEIGHT, round=Round(round), value=value, signatures=places)

    def journal(self, side: int, height: Height, messages: Iterable[SignedVote | CommitCertificate]) -> None:
        journal = Journal.open(self.homes[side] / "data" / "journal")
        journal.begin(height)
        journal.append(codec.encode(HeightEntry(height=height)))
        for message in messages:
            journal.append(codec.encode(MessageEntry(time=Millis(0), message=message, own=False)))
        journal.close()

    def segment(self, side: int) -> Path:
        (path,) = (self.homes[side] / "data" / "journal").iterdir()
        return path

    def address(self, who: int) -> str:
        return addresses.encode(self.validators.members[who].public_key)

    def files(self) -> Files:
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def broken(tmp_path: Path) -> Broken:
    return Broken(tmp_path / "net")


def forensics(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["forensics", *map(str, arguments)])


def found(*arguments: object) -> list[dict[str, object]]:
    result = forensics(*arguments, "--json")
    findings: list[dict[str, object]] = json.loads(result.stdout)["findings"]
    assert result.exit_code == (1 if findings else 0)
    return findings


def guilty(finding: dict[str, object]) -> list[str]:
    return sorted(culprit["validator"] for culprit in finding["culprits"])  # type: ignore[attr-defined]


def test_two_homes_that_disagree_name_the_culprits_and_are_not_touched(broken: Broken) -> None:
    before = broken.files()
    for paths in (broken.homes, [broken.folder]):
        (finding,) = found(*paths)
        assert (finding["height"], finding["disagreement"], finding["accounted_for"]) == (HEIGHT, True, True)
        assert guilty(finding) == sorted(map(broken.address, (1, 2)))
    assert broken.files() == before


def test_people_are_told_in_words(broken: Broken, tmp_path: Path) -> None:
    result = forensics(*broken.homes, "--output", tmp_path / "found")
    assert "height 3: DECIDED TWICE" in result.stdout
    assert f"{broken.address(1)}, power 10 of 40\n    forgot its precommit of" in result.stdout
    assert "nothing above height 3 is looked at" in result.stderr
    # What was written is what a node takes in.
    chain = broken.town.open(broken.homes[0] / "data" / "chain.db")
    assert len(EvidencePool(tmp_path / "found", judge_by(chain))) == 2
    chain.close()


def test_the_databases_alone_show_where_the_chains_part_and_ask_for_the_journals(broken: Broken) -> None:
    for side in range(2):
        broken.segment(side).unlink()
    (finding,) = found(*broken.homes)
    assert (finding["disagreement"], finding["accounted_for"], finding["culprits"]) == (True, False, [])
    told = forensics(*broken.homes).stdout
    assert told.count("not explained") == 4
    assert "add journals of other validators" in told


def test_journals_alone_do_with_a_genesis(broken: Broken) -> None:
    genesis = broken.homes[0] / "genesis.json"
    journals = [home / "data" / "journal" for home in broken.homes]
    (finding,) = found(*journals, "--genesis", genesis)
    assert guilty(finding) == sorted(map(broken.address, (1, 2)))
    assert "taken to be those of genesis" in forensics(journals[0], "--genesis", genesis).stderr
    segments = [broken.segment(side) for side in range(2)]
    assert found(*segments, "--genesis", genesis) == [finding]
    result = forensics(*journals)
    assert result.exit_code == 1
    assert "forensics.genesis" in result.stderr


def test_one_home_alone_shows_nothing(broken: Broken) -> None:
    result = forensics(broken.homes[0])
    assert (result.exit_code, result.stdout) == (0, "nothing was found\n")


def test_a_torn_tail_is_passed_over_and_stays(broken: Broken) -> None:
    for side in range(2):
        with broken.segment(side).open("ab") as file:
            file.write(b"torn")
    before = broken.files()
    (finding,) = found(*broken.homes)
    assert len(guilty(finding)) == 2
    assert broken.files() == before


def _damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


def test_of_a_damaged_journal_what_stands_before_is_taken(broken: Broken) -> None:
    _damaged(broken.segment(1))
    (finding,) = found(*broken.homes)
    assert finding["disagreement"]
    assert "what stands before it is taken" in forensics(*broken.homes).stderr


def test_entries_and_votes_that_make_no_sense_are_passed_over(broken: Broken) -> None:
    journal = Journal.open(broken.homes[0] / "data" / "journal")
    journal.append(b"\xc1")
    forged = replace(
        broken.vote(VoteKind.PREVOTE, 0, Hash(bytes(32)), 0), validator=broken.town.actors("bob")[0].key
    )
    journal.append(codec.encode(MessageEntry(time=Millis(0), message=forged, own=False)))
    journal.close()
    told = forensics(*broken.homes).stderr
    assert "an entry is passed over" in told
    assert "1 votes do not count" in told


def test_the_height_being_agreed_on_is_looked_at_too_and_no_higher_one(broken: Broken) -> None:
    """Height 5 is above the head: its validators are known. Those of 6 are not."""
    broken.segment(0).unlink()
    for height in (Height(5), Height(6)):
        broken.journal(0, height, [])
    result = forensics(broken.homes[0])
    assert result.stderr == "height 6: its validators are not known here\n"


def _no_home(broken: Broken) -> list[Path]:
    return [broken.homes[0] / "data"]


def _other_chain(broken: Broken) -> list[Path]:
    document = replace(broken.town.genesis, name="other").to_json()
    (broken.homes[1] / "genesis.json").write_text(json.dumps(document))
    return broken.homes


def _bad_fork(broken: Broken) -> list[Path]:
    path = broken.folder / "bad.fork"
    path.write_bytes(b"?")
    return [path]


def _other_validators(broken: Broken) -> list[Path]:
    store = ChainStore.open(broken.homes[1] / "data" / "chain.db")
    two: tuple[Validator, ...] = broken.validators.members[:2]
    store._db.execute("UPDATE validator_sets SET value = ? WHERE height = 3", (codec.encode(two),))
    store._db.conn.commit()
    store.close()
    return broken.homes


def _no_database(broken: Broken) -> list[Path]:
    (broken.homes[0] / "data" / "chain.db").write_bytes(b"no database at all, whatever its name" * 100)
    return broken.homes


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_no_home, "forensics.path"),
        (_bad_fork, "forensics.path"),
        (_other_chain, "forensics.chain"),
        (_other_validators, "forensics.validators"),
        (_no_database, "storage.corrupt"),
    ],
)
def test_what_cannot_be_used_is_refused(broken: Broken, make: Callable[[Broken], list[Path]], code: str) -> None:
    result = forensics(*make(broken))
    assert f"[{code}]" in result.stderr
    assert result.stdout == ""


def test_a_home_without_genesis_takes_the_one_that_is_given(broken: Broken) -> None:
    genesis = (broken.homes[0] / "genesis.json").rename(broken.folder / "genesis.json")
    assert forensics(broken.homes[0], "--genesis", genesis).exit_code == 0


def test_a_node_that_has_only_begun_shows_nothing(broken: Broken, tmp_path: Path) -> None:
    home = tmp_path / "new"
    (home / "data").mkdir(parents=True)
    broken.town.open(home / "data" / "chain.db").close()
    assert forensics(home, broken.homes[0]).exit_code == 0


# Forks


def test_a_fork_in_one_round_names_its_culprits(broken: Broken) -> None:
    members = broken.validators.members
    first, second = (
        LightBlock(
            signed=SignedHeader(header=block.header, certificate=broken.certificate(block, signers, 0)),
            validators=members,
            next_validators=members,
        )
        for block, signers in zip(broken.blocks, ((0, 1, 2), (1, 2, 3)), strict=True)
    )
    path = broken.folder / "3-abc.fork"
    path.write_bytes(codec.encode(Fork(common_height=2, first=first, second=second)))
    (finding,) = found(path, "--genesis", broken.homes[0] / "genesis.json")
    assert guilty(finding) == sorted(map(broken.address, (1, 2)))
    told = forensics(path, "--genesis", broken.homes[0] / "genesis.json").stdout
    assert "voted twice: precommit of" in told
    assert "beside the chain's own" in told


# The store that is only looked at


def test_a_store_is_looked_at_while_its_node_writes(broken: Broken) -> None:
    chain = broken.town.open(broken.homes[0] / "data" / "chain.db")
    broken.town.grow(chain)
    view = ChainStore.view(broken.homes[0] / "data" / "chain.db")
    head = view.head()
    assert head is not None
    assert head.height == chain.head.height == 5
    assert view.certificate(HEIGHT) == stored(chain, HEIGHT)[1]
    view.close()
    chain.close()


def test_no_store_is_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"storage\.unusable"):
        ChainStore.view(tmp_path / "chain.db")
    assert list(tmp_path.iterdir()) == []


def test_nodes_that_agree_and_nodes_without_a_database_show_nothing(broken: Broken, tmp_path: Path) -> None:
    home = tmp_path / "journal-only"
    (home / "data" / "journal").mkdir(parents=True)
    assert found(broken.homes[0], broken.homes[0], home) == []
