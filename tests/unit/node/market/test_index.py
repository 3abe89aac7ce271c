"""The market database over a real chain: what each table says, and that it is a pure function of the log."""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.chains import decline_by
from tests.support.ledger import HOUR, a_group
from tests.support.markets import GPUS, Marketplace, gpu_unit, marketplace, story

from fondaco.consensus.ledger.accounts import account_of
from fondaco.node.market.dump import difference, dump, open_database
from fondaco.node.market.index import Index, open_index, rebuild
from fondaco.node.market.ledger_rows import Elsewhere, LedgerRows
from fondaco.node.market.log import EventLog
from fondaco.node.market.schema import TABLES
from fondaco.node.market.shown import address, named, shown, word
from fondaco.protocol.errors import Refused
from fondaco.protocol.events import Event
from fondaco.protocol.market import order_id
from fondaco.protocol.records import LeaseState
from fondaco.protocol.resources import Attribute
from fondaco.protocol.scalars import ChainId, Hash, Height, MicroCredits, PublicKey

NAMES = ("alice", "bob", "paul", "petra")


def test_a_lease_is_told_from_its_order_to_its_end(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        served, lapsed = story(place)
        alice, _bob, paul, petra = place.town.actors(*NAMES)
        one, two = (place.row("SELECT * FROM leases WHERE id = ?", each.hex()) for each in served.leases)
        assert (one["provider"], two["provider"]) == (address(paul.key), address(petra.key))
        assert (one["group_name"], one["price_per_hour"], one["max_price_per_hour"]) == ("group0", 1_000, 1_100)
        assert one["order_id"] == one["deployment"] == served.deployment.hex()
        assert (one["state"], one["reason"], two["reason"]) == ("closed", 0, 7)
        assert one["opened_at"] < one["activated_at"] < one["closed_at"]
        assert two["paid"] == sum(
            each["amount"] for each in place.rows("SELECT amount FROM payments WHERE lease = ?", two["id"])
        )
        deployment = place.row("SELECT * FROM deployments WHERE id = ?", served.deployment.hex())
        assert deployment["state"] == "closed"
        assert deployment["tenant"] == address(alice.key)
        assert deployment["deposited"] == 9_000 + 700 + 10_000
        assert deployment["paid"] == one["paid"] + two["paid"]
        assert deployment["refunded"] == deployment["deposited"] - deployment["paid"]
        lost = place.row("SELECT * FROM leases WHERE id = ?", lapsed.lease.hex())
        assert (lost["activated_at"], lost["reason"], lost["paid"]) == (None, 20_001, 0)
        money = place.row("SELECT * FROM deployments WHERE id = ?", lapsed.deployment.hex())
        assert money["fees"] == 500 // 12, "five minutes of it"
        assert (money["fees"] + money["refunded"], money["deposited"]) == (5_000, 5_000)


def test_what_was_paid_agrees_with_the_ledger(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        before = {actor.key: actor for actor in place.town.actors(*NAMES)}
        story(place)
        for key in before:
            into = place.row(
                "SELECT coalesce(sum(CASE kind WHEN 'deposit' THEN -amount ELSE amount END), 0) AS sum"
                " FROM payments WHERE account = ?",
                address(key),
            )["sum"]
            assert into == credits_of(place, key) - 1_000_000_000


def credits_of(place: Marketplace, key: typing.Any) -> int:
    return account_of(place.chain.ledger.state(), key).credits


def test_states_between_beginning_and_end_are_seen(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul") as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        draft = place.lease(alice, (paul, 1_000), deposit=1_000)
        states = "SELECT l.state AS lease, d.state AS deployment, dry_at FROM leases l, deployments d"
        assert place.row(states) == {"lease": "awaiting", "deployment": "open", "dry_at": None}
        place.grow(paul.activates(draft.lease, receipt_of=alice))
        assert place.row(states)["lease"] == "active"
        place.grow(after_ms=HOUR)
        dry = place.row(states)
        assert (dry["lease"], dry["deployment"], dry["dry_at"]) == ("active", "grace", place.chain.head.time)
        place.grow(alice.deposits(draft.deployment, 5_000))
        assert place.row(states) == {"lease": "active", "deployment": "open", "dry_at": None}
        place.grow(after_ms=10 * HOUR)
        assert place.row(states)["lease"] == "closed", "the grace is over, too"
        assert place.row("SELECT reason FROM leases") == {"reason": 20_000}


def test_what_is_leased_rises_and_falls_with_each_lease(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul") as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        first = place.lease(alice, (paul, 1_000), deposit=5_000, units=(gpu_unit("h100", units=2, count=3),))
        second = place.lease(
            alice, (paul, 10), deposit=5_000, units=(gpu_unit("a100"), gpu_unit("h100", identity=2))
        )
        assert place.rows("SELECT model, units FROM lease_gpus WHERE lease = ?", first.lease.hex()) == [
            {"model": "h100", "units": 6}
        ]
        assert place.row("SELECT gpu_model FROM leases WHERE id = ?", second.lease.hex()) == {
            "gpu_model": "a100, h100"
        }
        place.grow(alice.closes(first.lease))
        place.grow(alice.closes(second.lease))
        steps = place.rows("SELECT leases, gpu_units, cpu_milli FROM utilisation ORDER BY height")
        assert [tuple(step.values()) for step in steps] == [(1, 6, 300), (2, 8, 500), (1, 2, 200), (0, 0, 0)]


def test_gossip_is_kept_as_it_was_first_heard(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul") as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        order = alice.order(a_group("gpus", price=900, units=(gpu_unit("h100"),)), deposit=MicroCredits(5_000))
        identity = order_id(place.town.chain, order.order)
        place.hear(order)
        place.hear(paul.bid(order, 800))
        place.hear(order, after_ms=500)
        place.hear(decline_by(paul, identity))
        place.grow()
        row = place.row("SELECT * FROM orders")
        assert (row["id"], row["tenant"], row["seen_height"]) == (identity.hex(), address(alice.key), 1)
        assert json.loads(row["groups"]) == [
            {"name": "gpus", "max_price_per_hour": 900, "gpus": {"h100": 1}, "attributes": []}
        ]
        bid = place.row("SELECT order_id, price_per_hour, gpu_model, seen_at FROM bids")
        assert bid == {
            "order_id": identity.hex(),
            "price_per_hour": 800,
            "gpu_model": "h100",
            "seen_at": row["seen_at"] + 10,
        }
        (reason,) = json.loads(place.row("SELECT reasons FROM declines")["reasons"])
        assert reason == {"dimension": "cpu", "asked": "8", "available": "3"}


def test_refusals_events_and_whom_they_name_are_there(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        story(place)
        refused = place.row("SELECT * FROM transactions WHERE code != ''")
        assert (refused["code"], refused["messages"]) == ("funds.credits", "transfer")
        assert place.rows("SELECT kind FROM events WHERE transaction_id = ?", refused["id"]) == [
            {"kind": "transaction_applied"}
        ]
        paul = address(place.town.actors("paul")[0].key)
        kinds = place.rows(
            "SELECT DISTINCT kind FROM events JOIN mentions USING (height, position) WHERE id = ? ORDER BY kind",
            paul,
        )
        assert [one["kind"] for one in kinds] == ["lease_opened", "paid", "provider_registered"]
        dry = place.row("SELECT * FROM events WHERE kind = 'ran_dry'")
        assert dry["transaction_id"] is None, "it came by itself"
        block = place.row("SELECT * FROM blocks WHERE height = 2")
        assert (block["signed_power"], block["total_power"], block["round"]) == (10, 10, 0)
        provider = place.row("SELECT * FROM providers WHERE address = ?", paul)
        assert (json.loads(provider["attributes"]), provider["bond"]) == ({"region": "eu"}, 1_000_000)


def test_live_and_rebuilt_say_the_same(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        story(place)
        rebuild(place.log, tmp_path / "again.db")
        assert difference(place.database, tmp_path / "again.db") == ""
        assert (tmp_path / "again.metadata.json").exists()
        place.grow()
        assert "meta has height, 1" in difference(place.database, tmp_path / "again.db")


def test_the_ledger_tables_are_the_same_on_a_node_that_heard_nothing(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        other_chain = place.town.open(tmp_path / "other.db")
        other = Marketplace(tmp_path / "deaf", place.town, other_chain)
        story(place)
        place.town.copy(place.chain, other_chain)
        other.step()
        assert difference(place.database, other.database, ledger_only=True) == ""
        assert "orders" in difference(place.database, other.database) or "meta" in difference(
            place.database, other.database
        )
        assert other.rows("SELECT * FROM bids") == []
        other.close()
        other_chain.close()


def test_who_begins_late_knows_what_ends_and_says_from_where(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul") as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        draft = place.lease(alice, (paul, 1_000), deposit=3_000)
        late_chain = place.town.open(tmp_path / "late.db")
        place.town.copy(place.chain, late_chain)
        late = Marketplace(tmp_path / "late", place.town, late_chain)
        place.grow(paul.activates(draft.lease, receipt_of=alice))
        place.grow(alice.deposits(draft.deployment, 100))
        place.grow(alice.closes(draft.lease), after_ms=HOUR)
        place.town.copy(place.chain, late_chain)
        late.step()
        assert late.index.start() == 3
        lease = late.row("SELECT * FROM leases")
        assert (lease["tenant"], lease["price_per_hour"], lease["opened_at"]) == (None, None, None)
        assert (lease["state"], lease["paid"], lease["reason"]) == ("closed", 1_000, 0)
        assert late.row("SELECT deposited, refunded FROM deployments") == {"deposited": 100, "refunded": 2_100}
        assert late.rows("SELECT * FROM utilisation") == []
        late.close()
        late_chain.close()


def test_every_event_has_a_meaning_here_and_a_name(tmp_path: Path) -> None:
    """A new event is either projected or listed as shown only: the match over them is total."""
    source = Path(LedgerRows.take.__code__.co_filename).read_text(encoding="utf-8")
    kinds = typing.get_args(Event)
    for kind in kinds:
        known = f"case {kind.__name__}(" in source or kind in typing.get_args(Elsewhere)
        assert known, f"{kind.__name__} is not among the rows of the ledger"
    assert len({word(kind) for kind in kinds}) == len(kinds)


def test_every_event_is_shown_as_json() -> None:
    for kind in typing.get_args(Event):
        event = kind(**{name: sample(hint) for name, hint in typing.get_type_hints(kind).items() if name != "TAG"})
        assert json.loads(json.dumps(shown(event))).keys() == set(kind.__dataclass_fields__) - {"TAG"}
        assert all(identity.startswith("fond1") or len(identity) == 64 for identity, _ in named(event))


def sample(hint: typing.Any) -> typing.Any:
    base = getattr(hint, "__supertype__", hint)
    if typing.get_origin(base) is not None:
        return () if typing.get_origin(base) is tuple else None
    if issubclass(base, enum.Enum):
        return next(iter(base))
    if dataclasses.is_dataclass(base):
        hints: typing.Any = typing.get_type_hints(base)
        return typing.cast(typing.Any, base)(**{name: sample(one) for name, one in hints.items() if name != "TAG"})
    return {int: 1, bool: True, str: "a", bytes: bytes(32)}[base]


def test_a_database_of_other_tables_or_none_at_all_is_made_anew(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        story(place)
        place.work.close()
        rebuild(place.log, tmp_path / "good.db")
        for spoil in (b"no database at all" * 100, b""):
            place.database.write_bytes(spoil)
            opened = open_index(place.log, place.database)
            opened.close()
            assert difference(place.database, tmp_path / "good.db") == ""
        index = Index.open(place.database, place.chain.id)
        assert index is not None
        with index._db.atomic():
            index._set("schema", 0)
        index.close()
        assert Index.open(place.database, place.chain.id) is None
        open_index(place.log, place.database).close()
        assert difference(place.database, tmp_path / "good.db") == ""


def test_the_log_is_bounded_and_the_database_is_of_what_is_left(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", "paul", days=1) as place:
        alice, paul = place.town.actors("alice", "paul")
        place.grow(paul.registers(attributes=GPUS))
        place.hear(alice.order(a_group(), deposit=MicroCredits(5_000)))
        for _ in range(20):
            place.grow(after_ms=2 * HOUR)
        place.work._cut(lambda: None)
        start = place.index.start()
        assert start is not None
        kept = place.rows("SELECT time_ms FROM blocks ORDER BY height")
        assert 24 * HOUR - 2 * HOUR <= kept[-1]["time_ms"] - kept[0]["time_ms"] <= 24 * HOUR
        assert place.log.heights() == (start, place.chain.head.height)
        assert place.rows("SELECT * FROM orders") == []
        rebuild(place.log, tmp_path / "again.db")
        assert difference(place.database, tmp_path / "again.db") == ""


def test_a_log_that_takes_too_much_loses_its_oldest_quarter(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice", cap=1) as place:
        for _ in range(9):
            place.grow()
        place.work._cut(lambda: None)
        assert place.log.heights() == (Height(3), Height(9))


def test_after_a_time_without_a_market_the_log_begins_anew(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice") as place:
        place.grow()
        place.chain.keeps_events = False
        place.grow()
        place.grow()
        place.step()
        assert place.log.heights() == (1, 1), "nothing goes on from there yet"
        place.chain.keeps_events = True
        place.grow()
        assert place.log.heights() == (4, 4)
        assert place.index.start() == 4


def test_what_is_logged_is_forgotten_in_the_chain_and_not_missed(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice") as place:
        for _ in range(5):
            place.grow()
        place.chain.store.forget_events(Height(5))
        assert place.chain.store.events(Height(4)) is None
        assert place.chain.store.first_events() == 5
        place.grow()
        assert place.log.heights() == (1, 6)
        place.chain.store.forget_events(Height(9))
        assert place.chain.store.first_events() is None
        place.grow()
        assert place.log.heights() == (1, 7)


def test_the_log_of_another_chain_is_refused_and_none_is_said(tmp_path: Path) -> None:
    EventLog.open(tmp_path / "log.db", ChainId("one-1")).close()
    with pytest.raises(Refused, match=r"chain\.other"):
        EventLog.open(tmp_path / "log.db", ChainId("two-2"))
    with pytest.raises(Refused, match=r"market\.none"):
        EventLog.view(tmp_path / "no.db")
    (tmp_path / "bad.db").write_bytes(b"x" * 4096)
    with pytest.raises(Refused, match=r"market\.unreadable"):
        EventLog.view(tmp_path / "bad.db")
    with pytest.raises(Refused, match=r"market\.unreadable"):
        open_database(tmp_path / "bad.db")


def test_a_dump_holds_every_table(tmp_path: Path) -> None:
    with marketplace(tmp_path, *NAMES) as place:
        story(place)
        found = {table for table, _ in dump(open_database(place.database))}
        assert set(TABLES) - found == {"attestations", "offers", "lease_gpus"}


def test_what_follows_the_transactions_of_a_block_is_nobodys(tmp_path: Path) -> None:
    with marketplace(tmp_path, "alice") as place:
        (alice,) = place.town.actors("alice")
        bonds = alice.bonds(5_000_000)
        place.grow(bonds)
        rows = place.rows("SELECT kind, transaction_id IS NULL AS by_itself FROM events ORDER BY height, position")
        found = [(row["kind"], bool(row["by_itself"])) for row in rows]
        assert ("bonded", False) in found
        assert ("power_changed", True) in found
        role = "SELECT role FROM mentions JOIN events USING (height, position) WHERE kind = 'power_changed'"
        assert place.rows(role) == [{"role": "validator"}]


def test_attributes_and_what_may_be_none_are_shown() -> None:
    assert shown((Attribute(key="region", value="eu"),)) == [{"region": "eu"}]
    assert shown(Votes(height=3, value=None, voter=PublicKey(bytes(32)), state=LeaseState.ACTIVE)) == {
        "height": 3,
        "value": None,
        "voter": address(PublicKey(bytes(32))),
        "state": "active",
    }
    assert named(Votes(height=3, value=None, voter=None, state=LeaseState.ACTIVE)) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    height: int
    value: Hash | None
    voter: PublicKey | None
    state: LeaseState
