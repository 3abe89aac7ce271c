"""Proof files by the commands that make and check them: made from real chains, checked by a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from tests.support.chains import Town, order_by
from tests.support.children import ROOT
from tests.support.ledger import RICH
from tests.support.light import Full, asking
from tests.support.network import address

from fondaco.consensus.proof import HeaderId, ProvenAt
from fondaco.node import clock
from fondaco.node.chain import Chain
from fondaco.node.cli import cli
from fondaco.node.cli import proof as commands
from fondaco.node.proof_file import KINDS, describe, key_of
from fondaco.node.tenant import records
from fondaco.node.tenant.connection import open_light
from fondaco.node.tenant.records import DeploymentFile, LeaseFile
from fondaco.node.tenant.trust import TrustStore
from fondaco.protocol import addresses, codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.light import Fork
from fondaco.protocol.market import deployment_id, lease_id
from fondaco.protocol.records import Account
from fondaco.protocol.scalars import BlindingSalt, GroupIndex, Height


class Scene:
    """A chain with a lease on it, a node that serves it, and a home of somebody who uses it."""

    def __init__(self, path: Path, *, initial_height: int = 1) -> None:
        self.home = path / "home"
        self.town = Town("alice", "bob", "paul", validators=4, initial_height=initial_height)
        self.alice, self.bob, self.paul = self.town.actors("alice", "bob", "paul")
        self.chain = self.town.open(path / "chain.db")
        now = clock.now()
        self.town.grow(self.chain, self.paul.registers(), at=now - 4_000)
        self.town.grow(self.chain, self.alice.pays(self.bob, 7), at=now - 3_000)
        self.order, signed = order_by(self.alice)
        opened = self.alice.opens(signed, self.paul.bid(signed, 900), deposit=10_000)
        self.town.grow(self.chain, opened, at=now - 2_000)
        self.deployment = deployment_id(self.order)
        self.lease = lease_id(self.deployment, GroupIndex(0))
        self.home.mkdir()
        self.genesis.write_text(json.dumps(self.chain.genesis.to_json()))

    @property
    def genesis(self) -> Path:
        return self.home / "genesis.json"

    def id(self, height: int) -> HeaderId:
        signed = self.chain.store.signed_header(Height(height))
        assert signed is not None
        return HeaderId(height=Height(height), hash=signed.header.hash())

    @asynccontextmanager
    async def served(self, *chains: Chain) -> AsyncIterator[None]:
        nodes = [Full(chain).methods() for chain in chains or (self.chain,)]
        async with asking(self.chain, *nodes) as asked:
            members = [
                {"name": f"v-{number}", "role": "validator", "address": address(host), "api": ""}
                for number, host in enumerate(asked.hosts)
            ]
            (self.home / "testnet.json").write_text(json.dumps({"chain": self.chain.id, "members": members}))
            yield

    async def prove(self, kind: str, name: str, start: int | None = None) -> Path:
        file = self.home / f"{kind}.proof"
        async with self.served():
            await commands._proof(kind, name, file, start, self.home, True)
        return file


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


def fondaco(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def verified(file: Path, trusted: object) -> Any:
    result = fondaco("verify", "--trusted", trusted, file, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# Making


async def test_a_lease_is_proven_by_id_and_checked_from_genesis_or_a_header(scene: Scene) -> None:
    file = await scene.prove("lease", scene.lease.hex())
    for trusted in (scene.genesis, scene.id(3)):
        found = verified(file, trusted)
        assert found["valid"] is True
        assert (found["kind"], found["id"], found["height"]) == ("lease", scene.lease.hex(), 3)
        assert found["record"]["provider"] == addresses.encode(scene.paul.key)
        assert found["record"]["state"] == "awaiting"


async def test_a_chain_that_begins_high_up_is_proven_from_its_genesis_and_its_first_header(tmp_path: Path) -> None:
    scene = Scene(tmp_path, initial_height=1_000)
    try:
        name = addresses.encode(scene.bob.key)
        from_genesis = await scene.prove("account", name)
        assert verified(from_genesis, scene.genesis)["height"] == 1_002
        from_the_first = await scene.prove("account", name, start=1_000)
        for trusted in (scene.genesis, scene.id(1_000)):
            assert verified(from_the_first, trusted)["record"]["credits"] == RICH + 7
        with pytest.raises(Refused, match=r"block\.unknown"):
            await scene.prove("account", name, start=999)
    finally:
        scene.chain.close()


async def test_every_kind_of_record_can_be_proven(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    names = {
        "account": addresses.encode(scene.bob.key),
        "provider": addresses.encode(scene.paul.key),
        "deployment": scene.deployment.hex(),
        "param": "heartbeat_ms",
    }
    for kind, name in names.items():
        found = verified(await scene.prove(kind, name), scene.genesis)
        assert found["kind"] == kind
        assert found["exists"]
        assert found["id"] == ("" if kind == "param" else name)
        made = json.loads(capsys.readouterr().out)
        assert made["hash"] == found["hash"]
    assert verified(scene.home / "account.proof", scene.id(3))["record"]["credits"] == RICH + 7


async def test_that_an_auditor_has_not_attested_a_provider_can_be_proven(scene: Scene) -> None:
    both = "/".join(addresses.encode(one.key) for one in (scene.paul, scene.alice))
    found = verified(await scene.prove("attestation", both), scene.genesis)
    assert (found["kind"], found["id"], found["exists"]) == ("attestation", both, False)


async def test_absence_is_proven_and_told(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    file = scene.home / "none.proof"
    async with scene.served():
        await commands._proof("deployment", "00" * 32, file, None, scene.home, False)
    printed = capsys.readouterr()
    assert "the file proves that" in printed.err
    assert "fondaco verify --trusted" in printed.out
    assert verified(file, scene.genesis)["exists"] is False
    assert "there is none" in fondaco("verify", "--trusted", scene.genesis, file).stdout


async def test_a_proof_can_begin_with_a_header_that_its_reader_trusts(scene: Scene) -> None:
    file = await scene.prove("lease", scene.lease.hex(), start=1)
    assert verified(file, scene.id(1))["height"] == 3
    plain = await scene.prove("account", addresses.encode(scene.bob.key))
    result = fondaco("verify", "--trusted", scene.id(1), plain)
    assert result.exit_code == 1
    assert "--from 1" in result.stderr


async def test_a_proof_goes_to_standard_output_where_no_file_is_named(
    scene: Scene, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with scene.served():
        await commands._proof("lease", scene.lease.hex(), None, None, scene.home, False)
    sys.stdout.flush()
    file = scene.home / "out.proof"
    file.write_bytes(capfdbinary.readouterr().out)
    assert verified(file, scene.genesis)["exists"]


def test_a_proof_is_not_printed_as_text(scene: Scene) -> None:
    result = fondaco("proof", "lease", "00" * 32, "--json", "--home", scene.home)
    assert result.exit_code == 2
    assert "-o" in result.stderr


async def test_a_file_that_cannot_be_written_is_told(scene: Scene) -> None:
    async with scene.served():
        with pytest.raises(Refused, match=r"proof\.unwritable"):
            await commands._proof("lease", scene.lease.hex(), scene.home / "no" / "x", None, scene.home, True)


def test_leases_of_one_s_own_go_by_their_names(scene: Scene) -> None:
    own = LeaseFile(
        lease=scene.lease,
        provider=scene.paul.key,
        peer="p",
        addresses=(),
        salt=BlindingSalt(bytes(32)),
        manifest=b"{}",
        group=None,
    )
    records.save(
        scene.home / "deployments", DeploymentFile(deployment=scene.deployment, name="web", leases=(own,))
    )
    for name in ("web", scene.lease.hex()[:8]):
        assert commands._key("lease", name, scene.home) == b"lease/" + scene.lease
    for number in range(2):
        (scene.home / "deployments" / f"{number}.json").write_text("no")
    with pytest.raises(Refused, match=r"deployments\.malformed"):
        commands._key("lease", "web", scene.home)


# Checking


async def test_checking_needs_neither_network_nor_what_it_is_made_of(scene: Scene) -> None:
    file = await scene.prove("lease", scene.lease.hex())
    script = (
        "import sys; from fondaco.node.cli import cli\n"
        "try: cli(sys.argv[1:])\n"
        "except SystemExit as done: code = done.code\n"
        "heavy = {'libp2p', 'sqlite_utils', 'fastapi', 'trio'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    command = [sys.executable, "-c", script, "verify", "--trusted", str(scene.genesis), str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"lease {scene.lease.hex()}" in done.stdout
    assert "proven at height 3" in done.stdout


async def test_without_an_anchor_or_with_a_wrong_one_nothing_is_proven(scene: Scene, tmp_path: Path) -> None:
    file = await scene.prove("lease", scene.lease.hex())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(Town("alice", validators=4, name="elsewhere").genesis.to_json()))
    garbled = tmp_path / "garbled.json"
    garbled.write_text("{")
    for arguments, code in (
        ((), "verify.no_anchor"),
        (("--trusted", "nonsense"), "light.anchor"),
        (("--trusted", f"3:{'00' * 32}"), "proof.anchor"),
        (("--trusted", other), "light.chain"),
        (("--trusted", garbled), "genesis.malformed"),
    ):
        result = fondaco("verify", *arguments, file)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.splitlines()[0].endswith(f"[{code}]")


async def test_a_file_that_is_none_or_was_changed_is_refused(scene: Scene, tmp_path: Path) -> None:
    file = await scene.prove("lease", scene.lease.hex())
    raw = file.read_bytes()
    bent = tmp_path / "bent"
    for bad in (b"", b"hello", raw[:-1], raw[:700] + bytes((raw[700] ^ 1,)) + raw[701:]):
        bent.write_bytes(bad)
        result = fondaco("verify", "--trusted", scene.genesis, bent)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
    result = fondaco("verify", "--trusted", scene.genesis, tmp_path / "missing")
    assert "proof.unreadable" in result.stderr


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("lease", "abcd", "proof.id"),
        ("lease", "not hex", "proof.id"),
        ("deployment", "00" * 31, "proof.id"),
        ("account", "fond1", "address.malformed"),
        ("param", "no_such", "proof.id"),
        ("attestation", "fond1nobody/fond1nobody", "address.malformed"),
        ("attestation", "/", "address.malformed"),
    ],
)
def test_a_record_that_cannot_be_is_told(kind: str, name: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        key_of(kind, name)
    assert caught.value.code == code


def test_a_record_of_another_kind_is_shown_as_it_is(scene: Scene) -> None:
    header = scene.chain.store.signed_header(Height(3))
    assert header is not None
    found = describe(ProvenAt(header=header.header, key=b"supply", value=b"\x01", steps=1))
    assert (found["kind"], found["id"], found["record"]) == ("record", b"supply".hex(), "01")


def test_the_commands_know_every_kind_there_is() -> None:
    assert tuple(KINDS) == commands.KINDS


# Going on


async def test_trust_shows_the_newest_header_and_keeps_it(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scene.served(scene.chain, scene.chain):
        await commands._trust(None, scene.home, False)
        assert capsys.readouterr().out == f"{scene.id(3)}\n"
        kept = TrustStore(scene.home, scene.chain.genesis.hash()).load()
        assert kept is not None
        assert kept.signed.header.hash() == scene.chain.head.hash
        await commands._trust(scene.id(2), scene.home, True)
        assert json.loads(capsys.readouterr().out)["height"] == 3
        with pytest.raises(Refused, match=r"light\.anchor"):
            await commands._trust(HeaderId(height=Height(2), hash=scene.id(1).hash), scene.home, True)


async def test_a_fork_leaves_its_evidence_in_the_home_and_the_kept_header_as_it_was(
    scene: Scene, tmp_path: Path
) -> None:
    forked = scene.town.open(tmp_path / "forked.db")
    scene.town.copy(scene.chain, forked)
    scene.town.grow(scene.chain, at=clock.now() - 1_000)
    scene.town.grow(forked, scene.alice.pays(scene.bob, 1), at=clock.now() - 900)
    store = TrustStore(scene.home, scene.chain.genesis.hash())
    async with scene.served(scene.chain, forked):
        with pytest.raises(Refused, match=r"light\.fork"):
            await commands._trust(None, scene.home, False)
    forked.close()
    (file,) = (scene.home / "evidence").iterdir()
    assert codec.decode(file.read_bytes(), Fork).first.signed.header.height == 4
    assert store.load() is None


async def test_the_next_run_goes_on_from_the_header_kept(scene: Scene) -> None:
    async with scene.served():
        async with open_light(scene.home, scene.chain.genesis) as light:
            await light.record(b"account/" + scene.bob.key, Account)
        async with open_light(scene.home, scene.chain.genesis) as light:
            assert light.trusted.height == 3


def test_the_page_shows_commands_that_exist() -> None:
    page = (ROOT / "docs" / "how-to" / "verify-a-proof.md").read_text(encoding="utf-8")
    shown = [line.split() for line in page.splitlines() if line.startswith("    fondaco ")]
    assert shown
    for words in shown:
        command = cli.get_command(click.Context(cli), words[1])
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known
