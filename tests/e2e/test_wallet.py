"""Several keys in one home on a running network, and money sent from one to another, once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.children import ROOT
from tests.support.shells import HELLO, Shell

from fondaco.node import clock
from fondaco.node.cli.output import credits
from fondaco.node.keys.keystore import Key, Keystore
from fondaco.node.keys.passphrases import read_passphrase
from fondaco.node.tenant import sending
from fondaco.protocol import codec
from fondaco.protocol.messages import Transfer
from fondaco.protocol.scalars import ChainId, MicroCredits, Millis, Salt
from fondaco.protocol.transactions import sign_transaction

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
CRASH = """
import os, sys
from fondaco.node.cli import cli
from fondaco.node.tenant.light import LightClient
async def die(*_): os._exit(9)
setattr(LightClient, sys.argv[1], die)
cli(sys.argv[2:])
"""
"""Dies like by kill -9 when it comes to some step: what is on disk then is all there is."""


def refusal(shell: Shell, *arguments: object, **options: Any) -> str:
    result = shell.run(*arguments, **options)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return result.stderr.splitlines()[-2 if "  try: " in result.stderr else -1]


@pytest.fixture(scope="module")
def ci(shell: Shell) -> str:
    """The address of a second key with money of its own."""
    made = shell.json("keys", "create", "ci")
    shell.text("wallet", "--faucet", "--key", "ci")
    return str(made["address"])


@pytest.fixture(scope="module")
def other(shell: Shell, lease: str, ci: str) -> str:
    """The lease of that key, which calls its deployment as the first key calls its own."""
    (found,) = shell.json("deploy", HELLO, "--name", "web", "--yes", "--key", "ci")["leases"]
    assert found != lease
    return str(found)


def test_two_keys_have_deployments_of_their_own_under_one_name(shell: Shell, lease: str, other: str) -> None:
    rows = {row["lease"]: row for row in shell.json("status")["leases"]}
    assert {one: (row["name"], row["key"]) for one, row in rows.items()} == {
        lease: ("web", "tenant"),
        other: ("web", "ci"),
    }
    text = shell.text("status")
    assert "tenant" in text
    assert "ci" in text
    assert shell.json("status", "web")["lease"] == lease
    one = shell.json("status", "web", "--key", "ci")
    assert (one["lease"], one["key"], one["provider_says"]) == (other, "ci", "running")
    assert shell.json("deploy", HELLO, "--name", "web", "--key", "ci")["step"] == "nothing"


def test_a_lease_of_another_key_is_refused_with_the_key_that_it_is_of(
    shell: Shell, lease: str, other: str
) -> None:
    for words in (("logs", other), ("close", other), ("request", other, "/"), ("top-up", other, "1000000")):
        assert refusal(shell, *words).startswith("fondaco: 'web' is of the key 'ci', and this is 'tenant'")
        assert shell.run(*words).stderr.endswith("[keys.not_owner]\n  try: add --key ci\n")
    assert "[keys.not_owner]" in refusal(shell, "close", lease, "--key", "ci")
    assert "[keys.not_owner]" in refusal(shell, "token", "create", lease, "--key", "ci", "--for", "x")
    assert "[keys.not_found]" in refusal(shell, "status", "--key", "nobody")


def test_the_key_is_that_of_the_option_else_of_the_variable_else_of_the_home(shell: Shell, ci: str) -> None:
    first = shell.json("wallet")
    assert first["key"] == "tenant"
    assert shell.run("wallet", env={"FONDACO_KEY": "ci"}).stdout.startswith(ci)
    shell.text("keys", "use", "ci")
    try:
        assert shell.json("wallet")["address"] == ci
        assert shell.run("wallet", env={"FONDACO_KEY": "tenant"}).stdout.startswith(first["address"])
        assert shell.run("wallet", "--key", "tenant", env={"FONDACO_KEY": "ci"}).stdout.startswith(
            first["address"]
        )
    finally:
        shell.text("keys", "use", "tenant")


def test_a_token_brings_its_own_key(shell: Shell, lease: str, ci: str, tmp_path: Path) -> None:
    file = tmp_path / "web.token"
    shell.json("token", "create", lease, "--for", ci, "--out", file)
    assert shell.json("status", "--token", file)["lease"] == lease
    assert shell.run("status", "--token", file, env={"FONDACO_KEY": "tenant"}).exit_code == 0
    assert shell.run("status", "--token", file, "--key", "tenant").exit_code == 2


def test_a_key_that_holds_leases_is_removed_once_they_have_ended(shell: Shell, other: str) -> None:
    assert "[keys.holds_leases]" in refusal(shell, "keys", "remove", "ci", "--yes")
    copy = Path(shell.home) / "ci.backup"
    shell.text("keys", "export", "ci", copy)
    assert shell.json("close", other, "--key", "ci")["lease"] == other
    shell.json("keys", "remove", "ci", "--yes")
    assert refusal(shell, "logs", other).startswith("fondaco: 'web' is of fond1")
    shell.json("keys", "import", "ci", copy)


# Sending


@pytest.fixture
def to(shell: Shell) -> str:
    return Keystore(Path(shell.home) / "keys").info("auditor").address


@pytest.fixture
def rich(shell: Shell) -> Iterator[int]:
    """What the tenant holds, ten credits at least; and nothing is left undone by the test."""
    yield shell.json("wallet", "--faucet")["ucredit"]
    assert list((Path(shell.home) / "sending").glob("*")) == []


def received(shell: Shell) -> int:
    return int(shell.json("wallet", "--key", "auditor")["ucredit"])


def test_what_is_sent_is_gone_here_and_there_proven(shell: Shell, rich: int, to: str) -> None:
    before = received(shell)
    result = shell.run("wallet", "send", to, "2.5credits", "--yes", "--json")
    sent = json.loads(result.stdout)
    assert (sent["to"], sent["ucredit"], sent["sent_before"]) == (to, 2_500_000, False)
    assert sent["receiver_ucredit"] == before + 2_500_000 == received(shell)
    fee = rich - 2_500_000 - sent["left_ucredit"]
    assert f"  fee        {credits(fee)}\n" in result.stderr, "as it was charged"
    assert "0.000001 credits were sent to" in shell.text("wallet", "send", to, "1ucredit", "--yes")


def test_what_should_not_be_sent_is_not(shell: Shell, rich: int, to: str) -> None:
    own = shell.json("wallet")["address"]
    for words, code in (
        ((own, "1credit", "--yes"), "wallet.self"),
        ((to[:-1] + ("p" if to.endswith("q") else "q"), "1credit", "--yes"), "address.malformed"),
        ((to, "5", "--yes"), "wallet.amount"),
        ((to, f"{rich}ucredit", "--yes"), "wallet.funds"),
        ((to, "1credit"), "wallet.unconfirmed"),
        ((to, "1credit", "--json"), "wallet.unconfirmed"),
    ):
        assert refusal(shell, "wallet", "send", *words).endswith(f"[{code}]")
    assert shell.json("wallet")["ucredit"] == rich
    misplaced = shell.run("wallet", "--faucet", "send", to, "1credit")
    assert (misplaced.exit_code, "come after it" in misplaced.stderr) == (2, True)


@pytest.mark.parametrize("step", ["submit_transaction", "outcome"])
def test_a_crash_on_the_way_sends_nothing_twice(shell: Shell, rich: int, to: str, step: str) -> None:
    before, words = received(shell), ("wallet", "send", to, "1credit", "--yes", "--home", shell.home)
    done = subprocess.run([sys.executable, "-c", CRASH, step, *words], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 9
    assert len(list((Path(shell.home) / "sending").glob("*.json"))) == 1
    again = shell.json("wallet", "send", to, "1credit", "--yes")
    assert (again["sent_before"], again["receiver_ucredit"]) == (True, before + 1_000_000)
    third = shell.json("wallet", "send", to, "1credit", "--yes")
    assert (third["sent_before"], third["receiver_ucredit"]) == (False, before + 2_000_000)


def test_something_else_is_sent_once_what_was_begun_is_settled(shell: Shell, rich: int, to: str) -> None:
    before, words = received(shell), ("wallet", "send", to, "1credit", "--yes", "--home", shell.home)
    subprocess.run([sys.executable, "-c", CRASH, "outcome", *words], cwd=ROOT, timeout=60, check=False)
    result = shell.run("wallet", "send", to, "2credits", "--yes")
    assert result.exit_code == 0
    assert "before     1 credits were sent" in result.stderr
    assert received(shell) == before + 3_000_000


def test_where_nobody_knows_what_became_of_it_a_person_decides(
    shell: Shell, network: dict[str, Any], rich: int, to: str
) -> None:
    home = Path(shell.home)
    key: Key = Keystore(home / "keys").load("tenant", read_passphrase(home))
    message = Transfer(to=Keystore(home / "keys").info("auditor").public_key, amount=MicroCredits(7))
    signed = sign_transaction(
        key.signer(),
        ChainId(network["chain"]),
        (message,),
        expires_at=Millis(clock.now() - 60_000),
        salt=Salt(bytes(16)),
    )
    begun = sending.Pending(to=message.to, amount=message.amount, raw=codec.encode(signed))
    sending.save(home, key.public_key, begun)
    assert refusal(shell, "wallet", "send", to, "7ucredit", "--yes").endswith("[wallet.unsure]")
    before = received(shell)
    shell.json("wallet", "send", to, "8ucredit", "--yes", "--forget-unsure")
    assert received(shell) == before + 8
