"""Every command against a running network, in this process: what it prints for people and for programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from tests.support.children import ROOT, running
from tests.support.edited import edited
from tests.support.shells import HELLO, Shell, piped

from fondaco.node import demo
from fondaco.node.cli import cli
from fondaco.protocol.sdl.edits import Edit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_a_network_says_who_is_who(network: dict[str, Any], shell: Shell) -> None:
    assert [member["name"] for member in network["members"]] == ["validator-0", "provider-0"]
    for member in network["members"]:
        os.kill(member["pid"], 0)
    node = Path(shell.home) / "nodes" / "validator-0"
    text = CliRunner().invoke(cli, ["node", "status", "--home", str(node)])
    assert text.exit_code == 0
    assert "height" in text.stdout
    assert (
        told(CliRunner().invoke(cli, ["node", "status", "--home", str(node), "--json"]))["chain"]
        == network["chain"]
    )


def net(shell: Shell, *arguments: str) -> Result:
    """Asked of the validator, which has an API."""
    node = Path(shell.home) / "nodes" / "validator-0"
    return CliRunner().invoke(cli, ["net", *arguments, "--home", str(node)])


def told(result: Result) -> Any:
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout)


def test_a_node_tells_of_its_network_and_why_a_peer_is_not_there(shell: Shell) -> None:
    (peer,) = told(net(shell, "peers", "--json"))["peers"]
    assert peer["id"] in net(shell, "peers").stdout
    topics = {topic["topic"]: topic for topic in told(net(shell, "mesh", "--json"))["topics"]}
    assert [member["id"] for member in topics["orders"]["mesh"]] == [peer["id"]]
    assert "orders: 1 in the mesh" in net(shell, "mesh").stdout
    clear = net(shell, "why-not", peer["id"])
    assert (clear.exit_code, "nothing is in its way" in clear.stdout) == (0, True)
    unknown = net(shell, "why-not", "nonsense")
    assert unknown.exit_code == 1
    assert "[peer.malformed]" in unknown.stdout
    assert told(net(shell, "why-not", "a/b?c", "--json"))["reasons"][0]["code"] == "peer.malformed"


def test_an_operator_bans_and_lifts(shell: Shell) -> None:
    assert "nobody is banned" in net(shell, "bans").stdout
    made = told(net(shell, "ban", "203.0.113.9", "--for", "2m", "--reason", "a test", "--json"))
    assert (made["subject"], made["by"]) == ("203.0.113.0/24", "operator")
    assert 110_000 < made["left_ms"] <= 120_000
    assert "203.0.113.0/24" in net(shell, "bans").stdout
    assert [one["reason"] for one in told(net(shell, "bans", "--json"))["bans"]] == ["a test"]
    assert "may connect again" in net(shell, "lift", "203.0.113.0/24").stdout
    again = net(shell, "lift", "203.0.113.0/24")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "[api.not_found]" in again.stderr


def test_a_wallet_is_shown_and_filled(shell: Shell) -> None:
    before = shell.json("wallet")
    after = shell.json("wallet", "--faucet")
    assert after["address"] == before["address"]
    assert after["ucredit"] == before["ucredit"] + 100_000_000
    assert before["address"] in shell.text("wallet")


def test_a_dry_run_shows_the_plan_and_leases_nothing(shell: Shell) -> None:
    result = shell.run("deploy", HELLO, "--dry-run")
    assert result.exit_code == 0
    assert "nothing was leased" in result.stdout
    assert "bids" in result.stderr
    assert shell.json("deploy", HELLO, "--dry-run")["price_per_hour_ucredit"] > 0
    assert "[bids.none]" in shell.run("deploy", HELLO, "--dry-run", "--where", "price > 1000").stderr
    assert "[select.unknown]" in shell.run("deploy", HELLO, "--select", "luckiest").stderr


def test_a_price_nobody_takes_is_refused_with_the_numbers_and_what_would_draw_a_bid(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "cheap.yaml"
    file.write_bytes(demo.HELLO.read_bytes().replace(b"amount: 100", b"amount: 0.01"))
    result = shell.run("deploy", file, "--yes")
    assert result.exit_code == 1
    assert "[bids.none]" in result.stderr
    assert "price: asked" in result.stderr
    assert f"{file}:28:19: profiles.placement.anywhere.pricing.web.amount: 0.01 -> " in result.stdout
    assert "offers just that" in result.stdout


def told_what_would_do(shell: Shell, *arguments: object) -> Any:
    """What a deploy that too few bid on says of its one group, to programs."""
    result = shell.run("deploy", *arguments, "--json")
    assert result.exit_code == 1
    (group,) = json.loads(result.stdout)["groups"]
    return group


def test_more_bids_than_there_are_providers_are_not_to_be_had(shell: Shell) -> None:
    refused = shell.run("deploy", HELLO, "--want", "2", "--yes")
    assert (refused.exit_code, "[bids.few]" in refused.stderr) == (1, True)
    assert "nothing that providers said would draw more bids" in refused.stdout
    group = told_what_would_do(shell, HELLO, "--want", "2")
    assert (group["bids"], group["reached"], group["proposals"]) == (1, 1, [])


def test_a_colleague_uses_a_lease_by_token_as_far_as_it_goes_until_it_is_revoked(
    shell: Shell, lease: str, tmp_path: Path
) -> None:
    """The colleague is another key of this home; a stranger has none of them."""
    colleague = next(key["address"] for key in shell.json("keys", "list")["keys"] if key["name"] == "auditor")
    file = tmp_path / "web.token"
    words = ("--for", colleague, "--scope", "status,logs,usage", "--scope", "exec:web,forward:web:8080")
    made = shell.json("token", "create", "web", *words, "--hours", "1", "--out", file)
    assert (file.stat().st_mode & 0o777, made["file"]) == (0o600, str(file))
    assert made["scopes"] == ["exec:web", "forward:web:8080", "logs", "status", "usage"]
    assert (
        "[capability.scope]" in shell.run("token", "create", "web", "--for", colleague, "--scope", "close").stderr
    )
    shown = shell.json("token", "show", file)
    assert (shown["lease"], shown["lease_state"], shown["state"]) == (lease, "active", "valid")
    assert (shown["token"], colleague in shell.text("token", "show", file)) == (made["token"], True)
    one = shell.json("status", "--token", file)
    assert (one["lease"], one["provider_says"]) == (lease, "running")
    assert shell.text("logs", "--token", file) == shell.text("logs", "web")
    assert shell.json("usage", "--token", file)["memory_leased_bytes"] is None
    assert shell.json("request", "--token", file, "/")["status"] == 200
    ran = piped(shell, "exec", "--token", str(file), "--", "python3", "-c", "print(6 * 7)")
    assert (ran.returncode, ran.stdout) == (0, b"42\n"), ran.stderr
    assert "[capability.scope]" in shell.run("events", "--token", file).stderr
    assert shell.run("logs", "web", "--token", file).exit_code == 2
    assert shell.run("logs").exit_code == 2
    assert shell.run("exec", "--token", file).exit_code == 2
    stranger = CliRunner().invoke(cli, ["logs", "--token", str(file), "--home", str(tmp_path)])
    assert (stranger.exit_code, "[capability.holder]" in stranger.stderr) == (1, True)
    with following(shell, file) as child:
        done = shell.json("token", "revoke", "web", made["token"][:8])
        assert (done["revoked"], done["calls_ended"]) == ([made["token"]], 1)
        assert child.wait(timeout=20) == 1
    assert "[capability.revoked]" in shell.run("request", "--token", file).stderr
    (row,) = shell.json("token", "list", "web")["tokens"]
    assert (row["token"], row["state"]) == (made["token"], "revoked")
    assert made["token"][:12] in shell.text("token", "list")
    assert "all tokens" in shell.text("token", "revoke", "web", "--all")
    assert shell.run("token", "revoke", "web").exit_code == 2
    assert "[capability.not_found]" in shell.run("token", "revoke", "web", "ffff").stderr


@contextmanager
def following(shell: Shell, token: Path) -> Iterator[subprocess.Popen[str]]:
    """A holder that follows the log, once it has said the first line."""
    command = [sys.executable, "-m", "fondaco", "logs", "--token", str(token), "--follow", "--home", shell.home]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command], text=True, cwd=ROOT, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        yield child


def test_deploying_a_name_again_leases_nothing_more(shell: Shell, lease: str, tmp_path: Path) -> None:
    before = shell.json("wallet")["ucredit"]
    would = shell.json("deploy", HELLO, "--name", "web", "--dry-run")
    assert (would["leases"], would["step"], would["done"]) == ([lease], "nothing", False)
    done = shell.json("deploy", HELLO, "--name", "web", "--yes", "--deposit", "5000")
    assert (done["leases"], done["step"], done["done"]) == ([lease], "nothing", True)
    assert shell.json("wallet")["ucredit"] == before
    assert "web runs already what the file says" in shell.text("deploy", HELLO, "--name", "web", "--yes")
    larger = tmp_path / "web.yaml"
    larger.write_text(demo.HELLO.read_text().replace("units: 0.5", "units: 0.75"))
    refused = shell.run("deploy", larger, "--yes")
    assert (refused.exit_code, "[deploy.changed]" in refused.stderr) == (1, True)
    assert f"fondaco close {lease[:12]}" in refused.stderr


def test_a_lease_is_looked_at_reached_and_closed(shell: Shell, lease: str) -> None:
    assert [row["lease"] for row in shell.json("status")["leases"]] == [lease]
    assert lease[:12] in shell.text("status")
    one = shell.json("status", "web")
    assert (one["lease"], one["state"]) == (lease, "active")
    assert "active" in shell.text("status", lease[:12])
    answer = shell.json("request", lease[:12], "/")
    assert answer["status"] == 200
    assert shell.text("request", "web") == answer["body"]
    lines = [json.loads(line) for line in shell.text("logs", "web", "--tail", "5", "--json").splitlines()]
    assert set(lines[0]) == {"service", "time_ms", "stream", "line"}
    assert lines[0]["line"] in shell.text("logs", "web")
    (used,) = [json.loads(line) for line in shell.text("usage", "web", "--json").splitlines()]
    assert (used["service"], used["memory_leased_bytes"]) == ("web", 128 * 2**20)
    assert 0 < used["memory_bytes"] < used["memory_leased_bytes"]
    assert used["sent_bytes"] > len(answer["body"])
    assert "of 128 MiB, " in shell.text("usage", lease[:12])
    told = [json.loads(line) for line in shell.text("events", "web", "--json").splitlines()]
    kinds = [event["kind"] for event in told if event["kind"] != "revoked"]
    assert kinds[-3:] == ["probing", "activating", "running"]
    last = told[-1]["number"]
    assert f"{last}  20" in shell.text("events", "web", "--after", str(last - 1))
    assert "[logs.no_previous]" in shell.run("logs", "web", "--previous").stderr
    assert shell.run("logs", "web", "--previous", "--follow").exit_code == 2
    missing = shell.run("status", "nothing")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "[lease.not_found]" in missing.stderr
    try_forward(shell, answer["body"])
    served = shell.json("manifest", "get", "web")
    assert (served["lease"], served["version"], served["ledger_version"]) == (lease, 1, 1)
    assert json.loads(shell.text("manifest", "get", lease[:12])) == served["manifest"]
    assert served["manifest"]["services"][0]["image"] == "fondaco/hello:demo"
    assert "[attestation.none]" in shell.run("attest", "web").stderr
    closed = shell.json("close", "web", "--grace", "5")
    assert closed["lease"] == lease
    assert [one["service"] for one in closed["services"]] == ["web"]
    assert closed["refunded_ucredit"] > 0
    ending = shell.text("events", "web", "--follow").splitlines()
    assert ending[-1].endswith("closed       closed_by_tenant (0, the tenant)")
    again = shell.run("close", "web", "--grace", "0")
    assert "not stopped before" in again.stderr
    assert again.exit_code == 1
    assert shell.json("status", "web")["state"] == "closed"


def try_forward(shell: Shell, body: str) -> None:
    """Through a port of this machine, until Ctrl-C."""
    script = (
        "import sys\nfrom fondaco.node.cli import cli\n"
        "cli(['forward', 'web', '--home', sys.argv[1]], prog_name='fondaco')\n"
    )
    with running(script, shell.home) as child:
        assert child.stdout is not None
        address = child.stdout.readline().split()[0]
        for _ in range(2):
            answer = httpx.get(address, timeout=20)
            assert (answer.status_code, answer.text) == (200, body)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) != 0


def test_a_deploy_that_is_killed_before_the_hand_over_is_finished_by_the_next(
    network: dict[str, Any], shell: Shell, tmp_path: Path
) -> None:
    """Its provider is held from the choice on, so that nothing is handed over before the kill."""
    (provider,) = (member["pid"] for member in network["members"] if member["name"] == "provider-0")
    command = [sys.executable, "-m", "fondaco", "deploy", HELLO, "--name", "half", "--yes", "--home", shell.home]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as child:
            assert child.stderr is not None
            for line in child.stderr:
                if "go into escrow" in line:  # the plan stands
                    os.kill(provider, signal.SIGSTOP)
                if line.startswith("  lease"):
                    child.kill()
            assert child.wait(timeout=20) == -signal.SIGKILL
    finally:
        os.kill(provider, signal.SIGCONT)
    (half,) = (row for row in shell.json("status")["leases"] if row["name"] == "half")
    assert half["state"] == "awaiting"
    assert shell.json("deploy", HELLO, "--name", "half", "--dry-run")["step"] == "go_on"
    done = shell.json("deploy", HELLO, "--name", "half", "--yes")
    assert (done["leases"], done["step"]) == ([half["lease"]], "go_on")
    assert shell.json("request", "half", "/")["status"] == 200
    louder = tmp_path / "louder.yaml"
    louder.write_text(demo.HELLO.read_text().replace("- PORT=8080", "- PORT=8080\n      - VOLUME=11"))
    done = shell.json("deploy", louder, "--name", "half", "--yes")
    assert (done["leases"], done["step"]) == ([half["lease"]], "update")
    assert shell.json("manifest", "get", "half")["version"] == 2
    shell.json("close", "half")
    assert "step" not in shell.json("deploy", louder, "--name", "half", "--dry-run"), (
        "what has ended does not count"
    )


def test_who_does_as_the_first_proposal_says_draws_the_bid(shell: Shell, tmp_path: Path) -> None:
    """Too many replicas for the one provider of a common machine, at a price that is low for each.

    Last, for what it bids on is kept for a while, and may be all that there is.
    """
    file = tmp_path / "many.yaml"
    file.write_text(demo.HELLO.read_text().replace("count: 1", "count: 50").replace("amount: 100", "amount: 1"))
    group = told_what_would_do(shell, file, "--dry-run")
    best = group["proposals"][0]
    assert [one["promised"] for one in best["draws"]] == [True]
    file.write_text(edited(file.read_text(), [Edit(**edit) for edit in best["edits"]]))
    planned = shell.json("deploy", file, "--dry-run")
    assert planned["price_per_hour_ucredit"] == best["price_per_hour_ucredit"]
