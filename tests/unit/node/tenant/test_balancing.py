"""Who gets the next request: as numbers alone, with a die that is the same each time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fondaco.node.tenant.balancing import (
    FALL,
    PAUSE_S,
    PROBE_EVERY_S,
    RISE,
    Balancer,
    Change,
    Health,
    parse_weights,
)

THREE = {"app.0": "lease-a", "app.1": "lease-b", "app.2": "lease-c"}


def balancer(**weights: int) -> Balancer:
    made = Balancer(random.Random(7).random)
    named = {name.replace("_", "."): weight for name, weight in weights.items()}
    made.update(THREE, named, now=0.0)
    return made


def served(one: Balancer, name: str, latency_ms: float, *, now: float = 0.0, probe: bool = False) -> Change | None:
    standing = one.begin(name)
    change = one.succeed(name, standing, latency_ms, now=now, probe=probe)
    one.end(standing)
    return change


def broken(one: Balancer, name: str, *, now: float = 0.0, probe: bool = False) -> Change | None:
    standing = one.begin(name)
    change = one.fail(name, standing, now=now, probe=probe)
    one.end(standing)
    return change


def picks(one: Balancer, count: int = 3_000) -> Counter[str]:
    return Counter(str(one.pick()) for _ in range(count))


def test_equals_get_equal_shares_and_what_was_tried_is_not_picked_again() -> None:
    one = balancer()
    assert all(800 < count < 1_200 for count in picks(one).values())
    assert one.pick(tried={"app.0", "app.2"}) == "app.1"
    assert one.pick(tried=set(THREE)) is None
    assert Balancer(random.random).pick() is None


def test_the_slow_and_the_busy_get_less_and_are_still_measured() -> None:
    one = balancer()
    for name, latency in (("app.0", 10.0), ("app.1", 10.0), ("app.2", 200.0)):
        served(one, name, latency)
    found = picks(one)
    assert 0 < found["app.2"] < found["app.0"] / 2
    for _ in range(5):
        one.begin("app.0")
    assert picks(one)["app.0"] < found["app.0"] * 0.85


def test_latency_rises_at_once_and_is_forgotten_slowly() -> None:
    one = balancer()
    standing = one.replicas["app.0"]
    served(one, "app.0", 10.0, now=0.0)
    served(one, "app.0", 500.0, now=1.0)
    assert standing.latency_ms == 500.0
    served(one, "app.0", 10.0, now=2.0)
    assert 400 < (standing.latency_ms or 0) < 500
    served(one, "app.0", 10.0, now=100.0)
    assert 10 <= (standing.latency_ms or 0) < 11


def test_weights_hold_as_shares_and_zero_serves_only_when_nobody_else_can() -> None:
    one = balancer(app_0=8, app_1=1, app_2=0)
    found = picks(one)
    assert found["app.2"] == 0
    assert 0.85 < found["app.0"] / 3_000 < 0.93
    for name in ("app.0", "app.1"):
        for _ in range(FALL):
            broken(one, name)
    assert one.pick() == "app.2"


def test_failures_in_a_row_take_a_replica_out_and_probes_bring_it_back() -> None:
    one = balancer()
    assert broken(one, "app.1") is None
    served(one, "app.1", 5.0)
    assert broken(one, "app.1") is None, "they were not in a row"
    assert broken(one, "app.1") == Change(replica="app.1", health=Health.DOWN, failures=2)
    assert one.up() == 2
    assert "app.1" not in picks(one)
    assert one.pick(tried={"app.0", "app.2"}) == "app.1", "one that is down is better than none"
    assert served(one, "app.1", 5.0, probe=True) is None
    assert RISE == 2
    assert served(one, "app.1", 5.0, probe=True) == Change(replica="app.1", health=Health.UP, failures=0)
    assert "app.1" in picks(one)


def test_a_replica_that_stays_down_is_probed_less_and_less_but_never_given_up() -> None:
    one, now, waits = balancer(), 0.0, list[float]()
    one.update({"app.0": "lease-a"}, {}, now=now)
    for _ in range(FALL):
        broken(one, "app.0", now=now)
    for _ in range(9):
        waits.append(one.next_due() - now)
        assert one.due(now=now) == []
        now = one.next_due()
        assert one.due(now=now) == ["app.0"]
        broken(one, "app.0", now=now, probe=True)
    assert waits[0] == PAUSE_S[0]
    assert all(wait <= PAUSE_S[1] * 1.25 for wait in waits)
    assert waits[-1] >= PAUSE_S[1] * 0.75
    assert one.replicas["app.0"].failed == FALL, "probes are nobody's requests"


def test_what_serves_requests_needs_no_probes() -> None:
    one = balancer()
    assert one.due(now=0.0) == list(THREE)
    served(one, "app.0", 5.0, now=1.0)
    assert one.due(now=1.0) == ["app.1", "app.2"]
    assert "app.0" in one.due(now=1.0 + PROBE_EVERY_S)
    broken(one, "app.0", now=1.5)
    assert "app.0" in one.due(now=1.5), "a first failure is looked into at once"


def test_another_lease_is_another_machine_and_the_same_one_keeps_what_is_known_of_it() -> None:
    one = balancer()
    for name in ("app.0", "app.1"):
        for _ in range(FALL):
            broken(one, name)
    under_way = one.begin("app.0")
    one.update({"app.0": "lease-d", "app.1": "lease-b"}, {}, now=9.0)
    assert one.replicas["app.0"].health is Health.UP
    assert one.replicas["app.1"].health is Health.DOWN
    assert "app.2" not in one.replicas
    one.end(under_way)
    assert one.replicas["app.0"].in_flight == 0, "what was under way at the old one counts nothing at the new one"


def test_who_is_to_stay_stays_and_only_who_must_moves() -> None:
    one = balancer()
    keys = [f"10.0.0.{number}" for number in range(200)]
    before = {key: one.pick(key=key) for key in keys}
    assert before == {key: one.pick(key=key) for key in keys}
    assert set(before.values()) == set(THREE)
    for _ in range(FALL):
        broken(one, "app.1")
    after = {key: one.pick(key=key) for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != "app.1")
    assert one.pick(wanted="app.2") == "app.2"
    assert one.pick(wanted="app.1") != "app.1", "it is down"
    assert one.pick(wanted="app.2", tried={"app.2"}) == "app.0"


def test_keys_are_shared_by_weight() -> None:
    one = balancer(app_0=3, app_1=1, app_2=0)
    found = Counter(one.pick(key=str(number)) for number in range(2_000))
    assert found["app.2"] == 0
    assert 0.7 < found["app.0"] / 2_000 < 0.8


def test_weights_are_read_strictly() -> None:
    assert parse_weights(["app.0=3", "app.1=0"]) == {"app.0": 3, "app.1": 0}
    for wrong in ("app.0", "=3", "app.0=-1", "app.0=x", "app.0=1001"):
        with pytest.raises(ValueError, match=wrong):
            parse_weights([wrong])
