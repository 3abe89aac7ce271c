"""Auditors on a real network: an SDL file that asks for one is served by whom he confirms, and by nobody else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from tests.support.networks import network

from fondaco.node import demo, image
from fondaco.node.cli import cli
from fondaco.node.cli.testnet import _audit
from fondaco.node.genesis_file import read_genesis
from fondaco.node.keys.keystore import Keystore
from fondaco.node.testnet import AKASH_AUDITOR
from fondaco.protocol import addresses

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SIGNED = "    anywhere:\n      attributes:\n        host: akash\n      signedBy:\n        anyOf:\n          - {}\n"


class Shell:
    """Commands on one home, as a person types them while the network runs."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def run(self, *words: object) -> Result:
        def call() -> Result:
            return CliRunner().invoke(cli, [*map(str, words), "--home", str(self.home)])

        return await trio.to_thread.run_sync(call)

    async def text(self, *words: object) -> str:
        result = await self.run(*words)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    async def json(self, *words: object) -> Any:
        return json.loads(await self.text(*words, "--json"))

    async def refused(self, *words: object) -> str:
        result = await self.run(*words)
        assert result.exit_code == 1, result.output
        return result.stderr

    def file(self, auditor: str) -> Path:
        """The demonstration's workload, for a provider that `auditor` confirms."""
        path = self.home / "signed.yaml"
        path.write_text(demo.HELLO.read_text().replace("    anywhere:\n", SIGNED.format(auditor), 1))
        return path


async def test_a_file_that_asks_for_an_auditor_is_served_by_whom_he_confirms(tmp_path: Path) -> None:
    image.build_demo_image(tmp_path / "images")
    async with network(tmp_path, validators=1, providers=1) as net:
        shell = Shell(tmp_path)
        provider = Keystore(net.plan.home / "nodes" / "provider-0" / "keys").info("provider").address
        auditor = Keystore(tmp_path / "keys").info("auditor").address
        signed = shell.file(AKASH_AUDITOR)

        unknown = await shell.refused("deploy", shell.file("akash1nobody"), "--yes")
        assert "placement.unknown_auditor" in unknown
        assert "akash1nobody" in unknown
        assert "auditors.toml" in unknown
        shell.file(AKASH_AUDITOR)
        assert auditor in await shell.refused("deploy", signed, "--yes"), "the decline names whom it lacks"
        assert "no auditor confirms anything" in await shell.text("audit", "show", provider)

        evidence = tmp_path / "report.txt"
        evidence.write_text("seen with my own eyes")
        told = await shell.json("audit", "attest", provider, "host=akash", "--days", 7, "--evidence", evidence)
        (said,) = told["attestations"]
        assert (said["auditor"], said["holds"], said["attributes"]) == (auditor, True, {"host": "akash"})
        assert said["evidence"] == hashlib.sha256(evidence.read_bytes()).hexdigest()
        assert "attest.differs" in await shell.refused("audit", "attest", provider, "host=elsewhere")
        shown = await shell.json("audit", "show", provider, "--auditor", AKASH_AUDITOR)
        assert shown["attestations"] == told["attestations"]

        deployed = await shell.json("deploy", signed, "--yes")
        assert deployed["bids"] == 1
        await shell.text("close", deployed["leases"][0])

        (tmp_path / "auditors.toml").write_text(f'akash1nobody = "{auditor}"\n')
        assert (await shell.json("deploy", shell.file("akash1nobody"), "--dry-run"))["bids"] == 1

        assert (await shell.json("audit", "revoke", provider))["attestations"] == []
        assert auditor in await shell.refused("deploy", shell.file(auditor), "--dry-run")
        assert "attest.unknown" in await shell.refused("audit", "revoke", provider, "--auditor", AKASH_AUDITOR)
        await _audit(tmp_path)
        (said,) = (await shell.json("audit", "show", provider))["attestations"]
        assert said["attributes"] == shown["attributes"]
        assert "host" in said["attributes"]


async def test_the_issuer_mints_and_burns_and_the_supply_is_proven(tmp_path: Path) -> None:
    async with network(tmp_path, validators=1):
        shell = Shell(tmp_path)
        genesis = read_genesis(tmp_path / "genesis.json")
        issuer = Keystore(tmp_path / "keys").info("issuer")
        assert genesis.issuer == issuer.public_key
        minted = await shell.json("issuer", "mint", 5_000_000, addresses.encode(issuer.public_key))
        burnt = await shell.json("issuer", "burn", 2_000_000)
        assert minted["supply_ucredit"] - burnt["supply_ucredit"] == 2_000_000
        assert "done in block" in await shell.text("issuer", "burn", 1)
        tenant = Keystore(tmp_path / "keys").info("tenant").address
        assert "issuer.sender" in await shell.refused("issuer", "mint", 1, tenant, "--key", "tenant")
