from fondaco.node.network.bans import Bans, network_of
from fondaco.node.network.peers import PeerId
from fondaco.protocol import limits

PEER = PeerId("12D3KooWpeer")


def test_a_ban_ends() -> None:
    bans = Bans()
    bans.ban(PEER, 0.0, "spam", life_ms=1000)
    assert bans.why(PEER, 0.9) == "spam"
    assert bans.why(PEER, 1.0) is None
    assert bans.why(PEER, 0.0) is None


def test_a_ban_can_be_lifted() -> None:
    bans = Bans()
    bans.ban(PEER, 0.0, "spam")
    bans.lift(PEER)
    assert bans.why(PEER, 0.0) is None


def test_many_faults_in_a_short_time_are_a_ban() -> None:
    bans = Bans()
    found = [bans.fault(PEER, float(second), "nonsense") for second in range(limits.PEER_FAULTS)]
    assert found == [False] * (limits.PEER_FAULTS - 1) + [True]
    assert bans.why(PEER, 10.0) == "nonsense"


def test_as_many_faults_in_a_long_time_are_none() -> None:
    bans = Bans()
    assert not any(bans.fault(PEER, 60.0 * minute, "nonsense") for minute in range(100))


def test_the_lists_are_bounded() -> None:
    bans = Bans()
    for number in range(limits.BANS + 5):
        bans.ban(PeerId(str(number)), 0.0, "spam")
        bans.fault(PeerId(str(number)), 0.0, "nonsense")
    assert bans.why(PeerId("0"), 0.0) is None
    assert bans.why(PeerId("10"), 0.0) == "spam"
    assert len(bans._until) == len(bans._faults) == limits.BANS


def test_addresses_are_counted_by_network() -> None:
    assert network_of("203.0.113.77") == "203.0.113.0/24"
    assert network_of("2001:db8:1:2::3") == "2001:db8:1::/48"
