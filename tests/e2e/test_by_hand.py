"""Step by step what `deploy` does at once: orders, bids, plans, budgets, and what comes of what does not serve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.support.shells import HELLO, Shell

from fondaco.protocol import reasons

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ONE_CALLER = """
import socket, time
listener = socket.create_server(("0.0.0.0", 8080))
listener.accept()
listener.close()
print("closed after the first caller", flush=True)
time.sleep(3600)
"""
"""Serves its provider's probe, and nobody after that."""


def one_caller(folder: Path) -> Path:
    document = yaml.safe_load(Path(HELLO).read_text(encoding="utf-8"))
    document["services"]["web"] |= {"command": ["python3", "-c"], "args": [ONE_CALLER]}
    path = folder / "one-caller.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_offers_are_asked_for_by_a_query_and_priced_for_what_is_looked_for(shell: Shell) -> None:
    (row,) = shell.json("offers")["offers"]
    assert row["free"]["cpu_milli"] > 0
    assert row["audited_by"]
    (dearer,) = shell.json("offers", "price > 0 audited", "--cpu", "2", "--memory", "1GiB", "--sort", "-price")[
        "offers"
    ]
    assert dearer["price_per_hour_ucredit"] > 2 * row["price_per_hour_ucredit"]
    assert shell.json("offers", "gpu.model = h100")["offers"] == []
    assert "nobody offers such a thing" in shell.text("offers", "--cpu", "5000")
    assert "credits/h" in shell.text("offers", "cpu >= 500m")
    assert "[query.field]" in shell.run("offers", "prise < 1").stderr
    misspelt = shell.run("offers", "--sort", "prise")
    assert "[offers.sort]" in misspelt.stderr
    assert "did you mean price?" in misspelt.stderr


def test_an_order_is_placed_looked_at_and_accepted_by_hand(shell: Shell) -> None:
    placed = shell.json("order", HELLO, "--name", "by-hand")
    short = placed["order"][:12]
    assert [one["order"] for one in shell.json("bids")["orders"]] == [placed["order"]]
    assert short in shell.text("bids")
    heard = shell.json("bids", "by-hand", "--where", "price < 1000")
    ((best,),) = (group["ranked"] for group in heard["groups"])
    assert heard["price_per_hour_ucredit"] == best["price_per_hour_ucredit"] > 0
    assert best["reason"].endswith("below the maximum")
    told = shell.text("bids", short, "--explain")
    assert "✓" in told
    assert best["bid"][:12] in told
    wrong = shell.run("accept", short, "ffff", "--yes")
    assert (wrong.exit_code, "[bids.unknown]" in wrong.stderr) == (1, True)
    accepted = shell.json("accept", short, best["bid"][:16], "--yes")
    assert accepted["name"] == "by-hand"
    assert "hello from fondaco" in shell.text("request", "by-hand", "/")
    assert shell.json("bids")["orders"] == []
    again = shell.run("accept", short, "--yes")
    assert "[order.not_found]" in again.stderr
    shell.text("close", "by-hand")


def test_every_problem_of_a_file_is_told_at_once(shell: Shell, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text('version: "2.0"\nservices:\n  web:\n    imag: x\n', encoding="utf-8")
    for command in ("deploy", "order"):
        result = shell.run(command, broken)
        assert (result.exit_code, "[sdl.deployment.empty]" in result.stderr) == (1, True)
        assert "  also 4:5: services.web.imag: unknown key 'imag' (did you mean 'image'?)" in result.stderr


def test_an_order_whose_name_stands_already_takes_no_second_lease(shell: Shell) -> None:
    shell.json("deploy", HELLO, "--name", "stands", "--yes")
    shell.json("order", HELLO, "--name", "stands")
    refused = shell.run("accept", "stands", "--yes")
    assert (refused.exit_code, "[deploy.stands]" in refused.stderr) == (1, True)
    assert "fondaco close" in refused.stderr
    shell.text("close", "stands")


def test_an_accepted_order_that_was_not_handed_over_is_gone_on_with(shell: Shell, tmp_path: Path) -> None:
    """Its image cannot be had, so that the lease is there and the workload is not."""
    nowhere = tmp_path / "nowhere.yaml"
    text = Path(HELLO).read_text(encoding="utf-8")
    nowhere.write_text(text.replace("fondaco/hello:demo", "127.0.0.1:1/none:latest"), encoding="utf-8")
    shell.json("order", nowhere)
    first = shell.run("accept", "nowhere", "--yes")
    assert (first.exit_code, "credits are still in escrow" in first.stderr) == (1, True), first.stderr
    again = shell.run("accept", "nowhere", "--yes")
    (code,) = re.findall(r"\[(image\.[a-z_]+)\]", first.stderr)
    assert f"[{code}]" in again.stderr, "it is tried again, and not refused as unknown"
    leases = [one for one in shell.json("status")["leases"] if one["name"] == "nowhere"]
    assert [one["state"] for one in leases] == ["awaiting"], "it is the same one"
    shell.text("close", "nowhere")


def test_an_order_that_nobody_serves_says_what_would_draw_bids(shell: Shell, tmp_path: Path) -> None:
    dear = tmp_path / "dear.yaml"
    dear.write_text(
        Path(HELLO).read_text(encoding="utf-8").replace("amount: 100", "amount: 0.01"), encoding="utf-8"
    )
    shell.json("order", dear)
    result = shell.run("bids", "dear")
    assert result.exit_code == 1
    assert "what would draw bids" in result.stdout
    assert "[bids.none]" in result.stderr


def test_the_plan_is_shown_before_money_is_spent_with_a_reason_for_every_bid(shell: Shell) -> None:
    result = shell.run(
        "deploy", HELLO, "--name", "planned", "--dry-run", "--where", "price < 0.0000001", "--explain"
    )
    assert "[bids.none]" in result.stderr
    result = shell.run("deploy", HELLO, "--name", "planned", "--dry-run")
    assert result.exit_code == 0
    assert "✓" in result.stderr
    assert "go into escrow, what is not used comes back" in result.stderr
    assert "nothing was leased" in result.stdout
    assert "planned" not in shell.text("status")


def test_what_runs_by_its_providers_word_alone_is_closed_and_paid_no_longer(shell: Shell, tmp_path: Path) -> None:
    before = shell.json("wallet")["ucredit"]
    result = shell.run("deploy", one_caller(tmp_path), "--yes")
    assert (result.exit_code, "[lease.not_serving]" in result.stderr) == (1, True), result.stderr
    assert "not provider = fond1" in result.stderr
    ended = shell.json("status", "one-caller")
    assert (ended["state"], ended["reason"]) == ("closed", reasons.NOT_SERVING)
    paid = before - shell.json("wallet")["ucredit"]
    assert 0 <= paid < 5_000, "a few seconds' worth, and fees"


def test_a_budget_is_kept_over_commands_and_what_a_lease_gives_back_makes_room(shell: Shell) -> None:
    assert "no budget is set" in shell.text("budget")
    spent = shell.json("budget")["spent_ucredit"]["day"]
    room = shell.json("deploy", HELLO, "--name", "b", "--dry-run")["deposit_ucredit"]
    shell.json("budget", f"{(spent + room + room // 2) / 1_000_000:.6f}/day")
    shell.json("deploy", HELLO, "--name", "within", "--yes")
    result = shell.run("deploy", HELLO, "--name", "beyond", "--yes")
    assert (result.exit_code, "[budget.exceeded]" in result.stderr) == (1, True)
    assert "nothing was signed" in result.stderr
    top_up = shell.run("top-up", "within", str(room))
    assert "[budget.exceeded]" in top_up.stderr
    shell.text("close", "within")
    assert shell.json("budget")["spent_ucredit"]["day"] < spent + room // 10, "most of it came back"
    shell.json("deploy", HELLO, "--name", "beyond", "--yes")
    shell.text("close", "beyond")
    assert shell.json("budget", "none")["budget"] is None
    wrong = shell.run("budget", "5/fortnight")
    assert "[budget.malformed]" in wrong.stderr
