"""A budget: how it is written, what counts, what makes room again, and what is on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from tests.support.chains import Town
from tests.support.ledger import a_group

from fondaco.node import clock
from fondaco.node.tenant import bounds
from fondaco.node.tenant.budget import Budget, Purse, credits, outgoing
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.protocol.messages import Deposit, Faucet, Message, Transfer
from fondaco.protocol.scalars import DeploymentId, MicroCredits, MicroStake, PublicKey

KEY = PublicKey(bytes(range(32)))
HOUR_MS = 3_600_000


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time, to be moved."""
    held = [1_000_000_000_000]
    monkeypatch.setattr(clock, "now", lambda: held[0])
    return held


@pytest.mark.parametrize(
    ("text", "ucredit", "span"),
    [
        ("5/day", 5_000_000, "day"),
        ("0.25/hour", 250_000, "hour"),
        (" 30 / week ", 30_000_000, "week"),
        ("0/day", 0, "day"),
    ],
)
def test_a_budget_is_credits_in_a_span(text: str, ucredit: int, span: str) -> None:
    assert credits(text) == Budget(ucredit=ucredit, span=span)


@pytest.mark.parametrize(
    "text", ["", "5", "/day", "-1/day", "1e3/day", "5/fortnight", "0.0000001/day", "5/day/day"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        credits(text)
    assert refusal.value.code == "budget.malformed"


def test_what_goes_out_counts_until_its_span_is_over(tmp_path: Path, now: list[int]) -> None:
    purse = Purse(tmp_path, KEY, limit=credits("1/hour"))
    purse.reserve({"a": 600_000})
    with pytest.raises(Refused, match=r"0\.50 credits are more than the 0\.40 left of 1") as refusal:
        purse.reserve({"b": 500_000})
    assert refusal.value.code == "budget.exceeded"
    purse.reserve({"b": 400_000})
    now[0] += HOUR_MS
    purse.reserve({"c": 1_000_000})


def test_a_limit_that_is_kept_holds_for_every_process_besides_their_own(tmp_path: Path, now: list[int]) -> None:
    Purse(tmp_path, KEY).set(credits("1/day"))
    with pytest.raises(Refused):
        Purse(tmp_path, KEY, limit=credits("5/hour")).reserve({"a": 1_000_001})
    with pytest.raises(Refused):
        Purse(tmp_path, KEY, limit=credits("0.5/hour")).reserve({"a": 500_001})
    Purse(tmp_path, KEY).reserve({"a": 1_000_000})
    Purse(tmp_path, PublicKey(bytes(32))).reserve({"a": 9_000_000})  # another key
    Purse(tmp_path, KEY).set(None)
    Purse(tmp_path, KEY).reserve({"a": 9_000_000})
    assert Purse(tmp_path, KEY).read().within("day", now[0]) == 10_000_000


def test_what_comes_back_makes_room_up_to_what_went_there(tmp_path: Path, now: list[int]) -> None:
    purse = Purse(tmp_path, KEY, limit=credits("1/day"))
    purse.reserve({"a": 300_000})
    now[0] += 1
    purse.reserve({"a": 200_000, "b": 400_000})
    purse.give_back({"a": 250_000})
    assert [(one.to, one.ucredit) for one in purse.read().went] == [("a", 250_000), ("b", 400_000)]
    purse.give_back({"a": 9_000_000, "c": 5})
    assert purse.read().within("day", now[0]) == 400_000


def test_what_is_remembered_is_bounded_and_errs_on_the_strict_side(
    tmp_path: Path, now: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "BUDGET_ENTRIES", 3)
    purse = Purse(tmp_path, KEY)
    for number in range(5):
        now[0] += HOUR_MS
        purse.reserve({str(number): 1})
    assert [(one.to, one.ucredit) for one in purse.read().went] == [("", 3), ("3", 1), ("4", 1)]
    assert purse.read().went[0].at == now[0] - 2 * HOUR_MS
    now[0] += 8 * 24 * HOUR_MS
    purse.reserve({"late": 1})
    assert [one.to for one in purse.read().went] == ["late"]


def test_nothing_is_written_where_nothing_goes_out(tmp_path: Path) -> None:
    purse = Purse(tmp_path, KEY, limit=credits("0/day"))
    purse.reserve({})
    purse.reserve({"a": 0})
    purse.give_back({"a": 0})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        '{"limit": null}',
        '{"limit": {"ucredit": 1, "span": "year"}, "went": []}',
        '{"limit": null, "went": [1]}',
    ],
)
def test_a_damaged_file_spends_nothing_and_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    purse = Purse(tmp_path, KEY)
    purse.set(credits("1/day"))
    (path,) = (tmp_path / "budgets").glob("*.json")
    path.write_text(damage, encoding="utf-8")
    with pytest.raises(Refused) as refusal:
        purse.reserve({"a": 1})
    assert refusal.value.code == "budget.damaged"
    assert path.read_text(encoding="utf-8") == damage


async def test_two_at_once_do_not_spend_the_same_credits(tmp_path: Path) -> None:
    Purse(tmp_path, KEY).set(credits("0.00001/day"))
    refused = []

    def spend() -> None:
        purse = Purse(tmp_path, KEY)
        for _ in range(5):
            try:
                purse.reserve({"a": 1})
            except Refused:
                refused.append(1)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(trio.to_thread.run_sync, spend)
    assert len(refused) == 10
    assert Purse(tmp_path, KEY).read().within("day", clock.now()) == 10


def test_deposits_and_transfers_go_out_and_what_others_pay_does_not() -> None:
    town = Town("tenant", "paul")
    tenant, paul = town.actors("tenant", "paul")
    order = tenant.order(a_group(price=1_000), deposit=MicroCredits(10_000))
    opened = tenant.opens(order, paul.bid(order, 900), deposit=10_000)
    (opening,) = opened.messages
    deployment = DeploymentId(bytes(32))
    messages: tuple[Message, ...] = (
        opening,
        Deposit(deployment=deployment, amount=MicroCredits(5), payer=None),
        Deposit(deployment=deployment, amount=MicroCredits(6), payer=None),
        Deposit(deployment=deployment, amount=MicroCredits(7), payer=KEY),
        Transfer(to=paul.key, amount=MicroCredits(8)),
        Faucet(credits=MicroCredits(9), stake=MicroStake(9)),
    )
    found = outgoing(tenant.world.chain, messages)
    assert found == {opened.deployment.hex(): 10_000, deployment.hex(): 11, addresses.encode(paul.key): 8}
