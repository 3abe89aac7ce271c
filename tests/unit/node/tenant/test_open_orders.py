"""Orders that stand, on the disk: found by name or id, gone when they expire, and what a damaged file does."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.support.chains import Town
from tests.support.ledger import a_group

from fondaco.node import clock, demo
from fondaco.node.tenant import bounds, open_orders
from fondaco.node.tenant.open_orders import OpenOrder
from fondaco.node.tenant.ordering import Draft
from fondaco.protocol import sdl
from fondaco.protocol.errors import Refused
from fondaco.protocol.market import order_id
from fondaco.protocol.scalars import BlindingSalt, MicroCredits, Millis

TEXT = demo.HELLO.read_bytes()
EXPIRES = 1_800_000_000_000


def order(name: str, number: int = 0) -> OpenOrder:
    town = Town("tenant")
    (tenant,) = town.actors("tenant")
    signed = tenant.order(a_group(), deposit=MicroCredits(10_000 + number), expires_at=Millis(EXPIRES))
    draft = Draft(
        id=order_id(town.chain, signed.order),
        signed=signed,
        manifests=sdl.parse(TEXT).manifest,
        salts=(BlindingSalt(bytes(range(32))),),
    )
    return OpenOrder(draft=draft, text=TEXT, name=name)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time, to be moved."""
    held = [EXPIRES - 60_000]
    monkeypatch.setattr(clock, "now", lambda: held[0])
    return held


def code(home: Path, text: str) -> str:
    with pytest.raises(Refused) as refusal:
        open_orders.find(home, text)
    return refusal.value.code


def test_an_order_is_found_by_its_name_or_the_start_of_its_id_until_it_is_over(
    tmp_path: Path, now: list[int]
) -> None:
    assert open_orders.load_all(tmp_path) == []
    one, other = order("app"), order("other", 1)
    open_orders.save(tmp_path, one)
    open_orders.save(tmp_path, other)
    assert open_orders.find(tmp_path, "app") == one
    assert open_orders.find(tmp_path, other.draft.id.hex()[:8]) == other
    assert code(tmp_path, one.draft.id.hex()[:3]) == "order.not_found"
    open_orders.forget(tmp_path, other.draft.id)
    open_orders.forget(tmp_path, other.draft.id)
    assert code(tmp_path, "other") == "order.not_found"
    now[0] = EXPIRES
    assert open_orders.load_all(tmp_path) == []
    assert not list((tmp_path / "orders").iterdir())


def test_of_one_name_the_newest_counts(tmp_path: Path) -> None:
    first, second = order("app"), order("app", 1)
    for one in (first, second):
        open_orders.save(tmp_path, one)
    found = open_orders.load_all(tmp_path)
    assert len(found) == 2
    assert open_orders.find(tmp_path, "app") == found[-1]


def test_only_so_many_stand_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "OPEN_ORDERS", 1)
    open_orders.save(tmp_path, order("app"))
    with pytest.raises(Refused) as refusal:
        open_orders.save(tmp_path, order("other", 1))
    assert refusal.value.code == "orders.full"


def test_its_file_is_its_owners_alone_and_where_it_is_damaged_it_is_said(tmp_path: Path) -> None:
    open_orders.save(tmp_path, order("app"))
    (path,) = (tmp_path / "orders").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    whole = path.read_text(encoding="utf-8")
    bent = whole.replace('"salts"', '"salt"'), whole.replace('"signed": "', '"signed": "00')
    for damage in (whole[:-9], "[]", *bent):
        path.write_text(damage, encoding="utf-8")
        assert code(tmp_path, "app") == "orders.malformed"
