"""Why: causal chains over a real chain, checked against what was said and done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.support.chains import decline_by
from tests.support.ledger import HOUR, a_group
from tests.support.markets import Marketplace, marketplace, story

from fondaco.consensus.ledger.accounts import account_of
from fondaco.node.market.shown import address
from fondaco.node.market.why import Ambiguous, Answer, Sources, Step, as_text, why
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import order_id
from fondaco.protocol.reasons import describe
from fondaco.protocol.scalars import MicroCredits, Signature
from fondaco.protocol.signing import message_id

NAMES = ("alice", "bob", "paul", "petra")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Marketplace]:
    with marketplace(tmp_path, *NAMES) as opened:
        (tmp_path / "market").mkdir(exist_ok=True)
        yield opened


@contextmanager
def sources(place: Marketplace) -> Iterator[Sources]:
    with Sources.open(place.folder.parent) as opened:
        yield opened


def ask(place: Marketplace, text: str) -> Answer:
    with sources(place) as opened:
        return why(opened, text)


def kinds(answer: Answer) -> list[str]:
    return [str(step.facts["event"]) if step.what == "event" else step.what for step in answer.steps]


def only(answer: Answer, what: str) -> Step:
    (found,) = (step for step in answer.steps if step.what == what or step.facts.get("event") == what)
    return found


def test_a_lease_is_told_from_the_order_to_the_refunds(place: Marketplace) -> None:
    served, _ = story(place)
    alice, bob, paul, _petra = place.town.actors(*NAMES)
    answer = ask(place, served.leases[0].hex())
    told = kinds(answer)
    opening = ["order", "bid", "transaction", "block", "lease_opened"]
    assert told[: len(opening)] == opening
    handed_over = ["transaction", "block", "lease_activated"]
    assert told[5:8] == handed_over
    assert told.index("paid") < told.index("ran_dry") < told.index("resumed") < told.index("lease_closed")
    assert told[-1] == "refunded"
    order = only(answer, "order")
    assert order.facts["signed_by"] == address(alice.key)
    assert "at most 1100" in order.text
    bid = only(answer, "bid")
    assert "it won: the lowest of 1, 1000 of at most 1100 ucredit/h" in bid.text
    signed = [step for step in answer.steps if "signature" in step.facts]
    assert len(signed) >= 4
    assert all(step.facts["signature_holds"] for step in signed)
    block = next(step for step in answer.steps if step.what == "block")
    assert block.facts["certificate_holds"] is True
    assert (block.facts["signed_power"], block.facts["total_power"], block.facts["round"]) == (10, 10, 0)
    assert len(block.facts["signatures"]) == 1
    assert "closed_by_tenant (0, the tenant)" in only(answer, "lease_closed").text
    refunded = {step.facts["depositor"] for step in answer.steps if step.facts.get("event") == "refunded"}
    assert refunded == {address(bob.key)}, "alice's money, deposited first, was spent first"
    paid = [step.facts["amount"] for step in answer.steps if step.facts.get("event") == "paid"]
    assert sum(paid) == place.row("SELECT paid FROM leases WHERE id = ?", served.leases[0].hex())["paid"]
    text = as_text(answer)
    assert f"{address(paul.key)} serves {address(alice.key)}" in text
    assert "signature_holds: true" in text


def test_an_order_tells_of_all_its_leases_and_a_lapsed_one_names_its_reason(place: Marketplace) -> None:
    served, lapsed = story(place)
    answer = ask(place, f"order:{served.deployment.hex()[:12]}")
    assert answer.kind == "order"
    assert answer.text.startswith("became 2 leases")
    assert [step.what for step in answer.steps].count("order") == 1
    assert kinds(answer).count("lease_opened") == 2
    assert "handoff_timeout (20001, the network)" in as_text(ask(place, lapsed.lease.hex()))


def test_a_bid_that_won_and_one_that_did_not(place: Marketplace) -> None:
    alice, _, paul, petra = place.town.actors(*NAMES)
    place.grow(paul.registers(), petra.registers())
    order = alice.order(a_group(price=1_000), deposit=MicroCredits(5_000))
    cheap, dear = paul.bid(order, 700), petra.bid(order, 900)
    for item in (order, cheap, dear, decline_by(petra, order_id(place.town.chain, order.order))):
        place.hear(item)
    place.grow()
    assert ask(place, order_id(place.town.chain, order.order).hex()).text.startswith("stands without a lease, 2")
    identities = [message_id(place.town.chain, bid.bid).hex() for bid in (cheap, dear)]
    assert "no lease came of the order" in ask(place, identities[1]).text
    place.grow(alice.opens(order, dear, deposit=5_000))
    won, lost = ask(place, identities[1]), ask(place, identities[0])
    assert won.text.startswith("it won")
    assert "number 2 of 2 by price" in as_text(won)
    assert lost.text.startswith("it did not win, the lowest of 2; lease")
    assert only(lost, "outcome").text.startswith(f"the group went to {address(petra.key)} for 900")
    (declined,) = place.rows("SELECT id FROM declines")
    answer = ask(place, f"decline:{declined['id'][:10]}")
    assert "cpu: asked 8, available 3" in only(answer, "decline").text
    assert kinds(answer) == ["order", "decline", "outcome"]


def test_an_order_that_expired_says_so_and_one_that_was_not_heard_is_read_from_the_block(
    place: Marketplace,
) -> None:
    alice, _, paul, _ = place.town.actors(*NAMES)
    place.grow(paul.registers())
    order = alice.order(a_group(price=1_000), deposit=MicroCredits(5_000))
    place.hear(order)
    place.grow(after_ms=HOUR)
    assert ask(place, order_id(place.town.chain, order.order).hex()).text.startswith("expired without a lease")
    unheard = alice.order(a_group(price=1_000), deposit=MicroCredits(5_000))
    draft = alice.opens(unheard, paul.bid(unheard, 800), deposit=5_000)
    place.grow(draft)
    answer = ask(place, draft.lease.hex())
    assert kinds(answer) == ["order", "bid", "transaction", "block", "lease_opened"]
    assert "not heard here" in only(answer, "order").text
    assert "it won: no other bid was heard" in only(answer, "bid").text


def test_a_transaction_a_block_and_an_account(place: Marketplace) -> None:
    story(place)
    alice, bob, *_ = place.town.actors(*NAMES)
    refused = place.row("SELECT * FROM transactions WHERE code != ''")
    answer = ask(place, refused["id"][:16])
    assert answer.text.endswith("refused: funds.credits")
    assert only(answer, "transaction").facts["messages"] == [{"to": address(alice.key), "amount": 10**12}]
    assert kinds(answer) == ["transaction", "block"]
    block = ask(place, str(refused["height"]))
    assert block.kind == "block"
    assert only(block, "block").facts["header"]["height"] == refused["height"]
    assert ask(place, f"block:{block.steps[0].facts['hash'][:10]}").id == block.id
    account = ask(place, address(bob.key))
    credits = account_of(place.chain.ledger.state(), bob.key).credits
    assert account.text == f"{credits} ucredit and 1000000000 ustake"
    assert kinds(account).count("deposited") == 2
    assert kinds(account).count("transaction") == 5, "four of his own, and the one that gave his money back"


def test_ids_that_are_none_many_or_unknown(place: Marketplace) -> None:
    story(place)
    for nonsense in ("", "x", "abc", "fond1*", "order:", "coin:abcdef", "0x1234", "g" * 8, "1" * 70):
        with pytest.raises(Refused, match=r"why\.syntax"):
            ask(place, nonsense)
    for unknown in ("ffffffffffff0000", "999999", "fond1pnobody", "lease:1234567890ab"):
        with pytest.raises(Refused, match=r"why\.unknown"):
            ask(place, unknown)
    with pytest.raises(Ambiguous) as ambiguous:
        ask(place, "fond1p")
    assert len(ambiguous.value.candidates) == 5, "four people and a validator"
    assert str(ambiguous.value.candidates[0]).startswith("account:fond1p")
    for candidate in ambiguous.value.candidates:
        assert ask(place, str(candidate)).id == candidate.id


def test_a_long_life_is_told_by_its_ends(place: Marketplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WHY_EVENTS", 6)
    alice, _, paul, _ = place.town.actors(*NAMES)
    place.grow(paul.registers())
    draft = place.lease(alice, (paul, 1_000), deposit=100_000)
    place.grow(paul.activates(draft.lease, receipt_of=alice))
    for _ in range(8):
        place.grow(paul.withdraws(draft.lease), after_ms=HOUR)
    place.grow(alice.closes(draft.lease))
    answer = ask(place, draft.lease.hex())
    assert only(answer, "left_out").facts == {"events": 12 - 6}
    assert kinds(answer)[-3:] == ["block", "lease_closed", "refunded"]


def test_what_was_opened_before_the_log_is_told_from_where_it_begins(place: Marketplace, tmp_path: Path) -> None:
    alice, _, paul, _ = place.town.actors(*NAMES)
    place.grow(paul.registers())
    draft = place.lease(alice, (paul, 1_000), deposit=3_000)
    (tmp_path / "late").mkdir()
    late_chain = place.town.open(tmp_path / "late" / "chain.db")
    place.town.copy(place.chain, late_chain)
    late = Marketplace(tmp_path / "late" / "market", place.town, late_chain)
    place.grow(alice.deposits(draft.deployment, 100))
    place.grow(alice.closes(draft.lease))
    place.town.copy(place.chain, late_chain)
    late.step()
    answer = ask(late, draft.lease.hex())
    assert answer.text.startswith("opened before this log begins; closed: closed_by_tenant")
    assert kinds(answer) == ["transaction", "block", "lease_closed"]
    assert ask(late, draft.deployment.hex()).text == "a deployment opened before this log begins"
    with pytest.raises(Refused) as unknown:
        ask(late, "abcdefabcdef")
    assert unknown.value.hint == "the log begins at height 3"
    late.close()
    late_chain.close()


def test_a_block_that_is_no_longer_in_the_log_or_whose_validators_are_gone(place: Marketplace) -> None:
    served, _ = story(place)
    place.chain.store.prune(place.chain.head.height)
    block = next(step for step in ask(place, served.lease.hex()).steps if step.what == "block")
    assert block.facts["certificate_holds"] is None
    assert block.facts["signed_power"] == 10, "as it was when it was logged"


def test_reasons_have_names_where_there_is_one() -> None:
    assert describe(20_000) == "insufficient_funds (20000, the network)"
    assert describe(10_000) == "unstable (10000, the provider)"
    assert describe(4_711) == "4711 (the tenant)"


def test_an_answer_is_plain_values(place: Marketplace) -> None:
    import json

    story(place)
    for name in ("leases", "transactions", "orders", "bids", "declines"):
        for row in place.rows(f"SELECT id FROM {name}"):
            json.dumps(asdict(ask(place, row["id"])))


def test_what_was_tried_and_refused_is_part_of_the_story(place: Marketplace) -> None:
    alice, bob, paul, _ = place.town.actors(*NAMES)
    place.grow(paul.registers())
    order = alice.order(a_group(price=1_000), deposit=MicroCredits(5_000))
    bid = paul.bid(order, 800)
    for item in (order, bid):
        place.hear(item)
    draft = alice.opens(order, bid, deposit=0)
    place.grow(draft)
    answer = ask(place, draft.deployment.hex())
    assert answer.text.startswith("stands without a lease")
    assert kinds(answer) == ["order", "bid", "transaction", "block"]
    assert "refused: the deposit is 0 ucredit" in only(answer, "transaction").text
    draft = place.lease(alice, (paul, 1_000), deposit=3_000)
    place.grow(bob.closes(draft.lease))
    assert "[lease.party]" in ask(place, draft.lease.hex()).steps[-2].text


def test_a_certificate_is_verified_and_not_believed(place: Marketplace) -> None:
    place.grow()
    with sources(place) as opened:
        happened = opened.block(1)
        assert happened is not None
        good = happened.certificate
        assert opened.judge(good).holds is True
        forged = opened.judge(replace(good, signatures=(Signature(bytes(64)),)))
        assert (forged.holds, len(forged.signers)) == (False, 1)
        assert opened.judge(replace(good, signatures=(None,))).holds is False
