"""Handshakes by network: a burst, then so many a second."""

from fondaco.node.network.handshakes import HandshakeBudget


def test_a_network_has_a_burst_and_then_so_many_a_second() -> None:
    budget = HandshakeBudget(burst=3, per_s=2)
    addresses = ["203.0.113.1", "203.0.113.2", "203.0.113.200", "203.0.113.201"]
    assert [budget.spend(ip, 0.0) for ip in addresses] == [True, True, True, False]
    assert [budget.spend("203.0.113.9", now) for now in (0.4, 0.6, 0.7, 1.0)] == [False, True, False, True]
    assert [budget.spend("203.0.113.9", 100.0) for _ in range(4)] == [True, True, True, False]


def test_what_one_network_spends_is_nothing_to_another() -> None:
    budget = HandshakeBudget(burst=1, per_s=1)
    assert budget.spend("203.0.113.1", 0.0)
    assert budget.spend("198.51.100.1", 0.0)
    assert budget.spend("2001:db8:1::1", 0.0)
    assert not budget.spend("2001:db8:1:9::2", 0.0), "of the same /48"


def test_no_more_networks_are_remembered_than_there_is_room_for() -> None:
    budget = HandshakeBudget(burst=1, per_s=1, networks=2)
    for number in range(3):
        assert budget.spend(f"203.0.{number}.1", 0.0)
    assert not budget.spend("203.0.2.1", 0.0)
    assert budget.spend("203.0.0.1", 0.0), "it was forgotten"
