"""`fondaco provider pricing test` and `inventory`, without a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.chains import decline_by, order_by
from tests.support.hand_offs import TENANT, make_order
from tests.support.markets import marketplace
from tests.support.workloads import SDL, key, unit

from fondaco.node import bid_trial, config
from fondaco.node.cli import cli
from fondaco.node.joining import ensure_key
from fondaco.node.keys.keystore import Keystore
from fondaco.protocol import addresses, codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.limits import GIB
from fondaco.protocol.market import SignedOrder, order_id
from fondaco.protocol.scalars import ChainId, LeaseId, Millis
from fondaco.protocol.signing import sha256
from fondaco.provider import snapshot
from fondaco.provider.capacity import Allocation

PROVIDER = "cpu_milli = 2000\nmarket_least = 1\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return at(tmp_path, PROVIDER)


def at(path: Path, provider: str) -> Path:
    (path / "node.toml").write_text(
        f'name = "n"\nlisten = "127.0.0.1:1"\n[provider]\n{provider}', encoding="utf-8"
    )
    (path / "web.yaml").write_text(SDL, encoding="utf-8")
    return path


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(cli, ["provider", *map(str, words)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def verdict(home: Path, *words: str | Path) -> dict[str, Any]:
    (found,) = json.loads(run("pricing", "test", *words, "--home", home, "--json"))["groups"]
    return dict(found)


def reserve(home: Path, cpu: int) -> None:
    """As a node leaves it: one promise, one lease."""
    settings = bid_trial.settings(config.load(home))
    books = settings.agent.books()
    for name in (b"\x01" * 32, b"\x02" * 32):
        found = books.plan((unit(cpu=cpu),), key(1))
        assert isinstance(found, Allocation)
        books.reserve(name, tenant=key(1), allocation=found, expires_at=Millis(5))
    books.commit(b"\x02" * 32, LeaseId(b"\x02" * 32))
    (home / "provider").mkdir()
    (home / "provider" / "reservations").write_bytes(codec.pack(snapshot.to_plain(books.reservations)))


def test_what_would_be_bid_on_a_file_is_shown_with_its_parts(home: Path) -> None:
    found = verdict(home, home / "web.yaml")
    assert found["answer"] == "bid"
    assert found["price_per_hour_ucredit"] == 10_000 + 4_000 + 200
    assert found["parts_ucredit"] == {"cpu": 10_000, "memory": 4_000, "storage ephemeral": 200}
    assert found["allocation"] == [{"unit": 1, "machine": "n"}] * 2
    told = run("pricing", "test", home / "web.yaml", "--home", home)
    assert told.startswith("west: bid 0.0142 credits/h, of at most")
    assert "2 x on n" in told


def test_what_stands_against_it_is_shown_with_what_would_be_served_instead(home: Path) -> None:
    reserve(home, 600)
    found = verdict(home, home / "web.yaml")
    assert found["answer"] == "decline"
    assert found["reasons"] == [{"dimension": "cpu_milli", "asked": "1000", "available": "800"}]
    assert found["counter_offers"][0]["change"] == "replicas"
    assert "instead                  unit 1 with 1 replicas" in run(
        "pricing", "test", home / "web.yaml", "--home", home
    )
    assert verdict(home, home / "web.yaml", "--empty")["answer"] == "bid"


def test_a_price_that_is_too_high_shows_how_it_came_about(home: Path) -> None:
    at(home, PROVIDER + "cost_cpu = 9000000\n")
    found = verdict(home, home / "web.yaml")
    assert found["answer"] == "decline"
    assert found["parts_ucredit"]["cpu"] == 9_000_000
    assert found["notes"] == ["cpu: raised to its cost"]


def test_whom_it_serves_is_looked_at_where_somebody_is_named(home: Path) -> None:
    at(home, PROVIDER + f'allow_tenants = ["{addresses.encode(key(1))}"]\nmin_deposit = 10\n')
    assert verdict(home, home / "web.yaml")["answer"] == "bid"
    assert verdict(home, home / "web.yaml", "--tenant", addresses.encode(key(1)))["answer"] == "bid"
    other = verdict(home, home / "web.yaml", "--tenant", addresses.encode(key(2)))
    assert other["reasons"][0]["dimension"] == "tenant"
    assert verdict(home, home / "web.yaml", "--deposit", "9")["reasons"][0]["dimension"] == "policy deposit"


def test_a_program_is_asked_here_too(home: Path) -> None:
    at(home, PROVIDER + 'pricing = "program"\npricing_program = ["echo", "2"]\n')
    assert verdict(home, home / "web.yaml")["price_per_hour_ucredit"] == 1_200
    at(home, PROVIDER + 'pricing = "program"\npricing_program = ["false"]\n')
    assert "ended with 1" in verdict(home, home / "web.yaml")["reasons"][0]["available"]


def test_an_order_is_found_in_a_file_or_by_its_id(tmp_path: Path, home: Path) -> None:
    order = make_order()
    signed = SignedOrder(order=order, signature=TENANT.sign(ChainId("test"), order))
    (home / "order").write_bytes(codec.encode(signed))
    assert verdict(home, home / "order")["price_per_hour_ucredit"] == 1_250
    (home / "data").mkdir()
    with marketplace(home / "data") as market:
        market.hear(signed)
        market.step()
        identity = order_id(market.town.chain, order).hex()
    assert verdict(home, identity[:9])["answer"] == "bid"
    for wrong, code in (("ffff", "order.unknown"), ("web.yml", "order.unknown")):
        with pytest.raises(Refused) as caught:
            bid_trial.read_wish(wrong, config.load(home), {})
        assert caught.value.code == code


def test_the_inventory_says_what_is_promised_let_and_free(home: Path) -> None:
    at(
        home,
        PROVIDER + '[[provider.machines]]\nname = "a"\ncpu_milli = 2000\nmemory_bytes = 4294967296\n'
        "storage_bytes = 4294967296\ngpu_models = { h100 = 2 }\n",
    )
    reserve(home, 500)
    found = json.loads(run("inventory", "--home", home, "--json"))
    (machine,) = found["machines"]
    assert machine["resources"]["cpu"] == {"total": 2_000, "promised": 500, "let": 500, "free": 1_000}
    assert machine["resources"]["memory"]["free"] == 2 * GIB
    assert machine["resources"]["gpu nvidia/model/h100"]["free"] == 2
    assert [one["state"] for one in found["held"]] == ["let", "promised"]
    told = run("inventory", "--home", home).splitlines()
    assert told[1].split() == ["a", "cpu", "2", "0.5", "0.5", "1"]
    assert told[-2].startswith("let       020202020202")


def test_books_that_cannot_be_read_and_homes_of_no_provider_are_refused(home: Path) -> None:
    reserve(home, 100)
    (home / "provider" / "reservations").write_bytes(b"torn")
    told = config.load(home)
    with pytest.raises(Refused) as caught:
        bid_trial.books(told, bid_trial.settings(told))
    assert caught.value.code == "provider.books"
    (home / "node.toml").write_text('name = "n"\nlisten = "127.0.0.1:1"\n', encoding="utf-8")
    with pytest.raises(Refused) as caught:
        bid_trial.settings(config.load(home))
    assert caught.value.code == "provider.none"


# --- init, run and status


def with_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FONDACO_PASSPHRASE", "secret")
    return addresses.encode(ensure_key(config.load(home), "provider"))


def test_init_writes_a_commented_provider_once_and_makes_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FONDACO_PASSPHRASE", "secret")
    (tmp_path / "node.toml").write_text('name = "n"\nlisten = "127.0.0.1:1"\n', encoding="utf-8")
    told = json.loads(run("init", "--home", tmp_path, "--json"))
    assert told["address"] == addresses.encode(Keystore(tmp_path / "keys").info("provider").public_key)
    node = config.load(tmp_path)
    assert node.provider is not None
    assert node.provider.cpu_milli == told["cpu_milli"] > 0
    text = (tmp_path / "node.toml").read_text(encoding="utf-8")
    assert "# cost_cpu" in text
    again = CliRunner().invoke(cli, ["provider", "init", "--home", str(tmp_path)])
    assert again.exit_code == 1
    assert "[provider.exists]" in again.stderr
    assert (tmp_path / "node.toml").read_text(encoding="utf-8") == text


def test_run_finds_a_bad_configuration_before_a_node_starts(home: Path) -> None:
    at(home, 'pricing = "guess"\n')
    result = CliRunner().invoke(cli, ["provider", "run", "--home", str(home)])
    assert result.exit_code == 1
    assert "[config.field]" in result.stderr


def test_status_tells_the_books_without_a_market_database(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = with_key(home, monkeypatch)
    reserve(home, 500)
    told = json.loads(run("status", "--home", home, "--json"))
    assert (told["address"], told["promised"], told["let"]) == (address, 1, 1)
    assert told["used_permille"]["cpu"] == 500
    assert told["answers"] is None
    assert "set market = true" in run("status", "--home", home)


def test_status_tells_leases_earnings_and_the_last_answers_with_reasons(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FONDACO_PASSPHRASE", "secret")
    (home / "data").mkdir()
    with marketplace(home / "data", "alice", "paul") as market:
        alice, paul = market.town.actors("alice", "paul")
        market.grow(paul.registers())
        served = market.lease(alice, (paul, 1_000), deposit=9_000)
        order, signed = order_by(alice)
        market.hear(signed)
        market.hear(decline_by(paul, order))
        market.grow(paul.activates(served.leases[0], receipt_of=alice))
        market.grow(paul.withdraws(served.leases[0]), after_ms=3_600_000)
        Keystore(home / "keys").add_seed("provider", "secret", sha256(b"paul"))
    told = json.loads(run("status", "--home", home, "--json"))
    assert told["registered_at_ms"] is not None
    assert told["earned_ucredit"] > 0
    assert told["leases"] == {"active": 1}
    decline, bid = told["answers"]
    assert (decline["answer"], bid["answer"], bid["price_per_hour_ucredit"]) == ("decline", "bid", 1_000)
    assert decline["reasons"] == [{"dimension": "cpu", "asked": "8", "available": "3"}]
    lines = run("status", "--home", home, "--answers", "1").splitlines()
    assert lines[-1].endswith("declined: cpu: asked 8, has 3")
