import pytest

from fondaco.node.network.bans import BY_OPERATOR, Bans, network_of, subject_of
from fondaco.node.network.peers import PeerId, peer_id_of
from fondaco.protocol import limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.signing import Signer

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


def test_the_list_says_who_banned_whom_until_when_and_leaves_out_what_is_over() -> None:
    bans = Bans()
    bans.ban(PEER, 0.0, "spam", life_ms=1000)
    bans.ban("203.0.113.0/24", 1.0, "by hand", life_ms=9000, by=BY_OPERATOR)
    assert [one.subject for one in bans.listed(0.5)] == [PEER, "203.0.113.0/24"]
    (left,) = bans.listed(1.0)
    assert (left.subject, left.by, left.since, left.until) == ("203.0.113.0/24", "operator", 1.0, 10.0)
    assert len(bans) == 2
    assert bans.lift(PEER)
    assert not bans.lift(PEER)


def test_faults_are_told_until_they_have_led_to_a_ban() -> None:
    bans = Bans()
    for second in range(limits.PEER_FAULTS - 1):
        bans.fault(PEER, float(second), f"nonsense {second}")
    assert bans.faults(PEER)[-1] == (limits.PEER_FAULTS - 2.0, f"nonsense {limits.PEER_FAULTS - 2}")
    bans.fault(PEER, 9.0, "the last")
    assert bans.faults(PEER) == []


def test_a_subject_is_a_peer_or_a_network_of_the_size_that_is_looked_up() -> None:
    peer = peer_id_of(Signer(bytes(32)).public_key)
    assert subject_of(peer) == peer
    assert subject_of("203.0.113.9") == subject_of("203.0.113.0/24") == "203.0.113.0/24"
    assert subject_of("2001:db8:1:2::3") == subject_of("2001:db8:1::/48") == "2001:db8:1::/48"
    for text in (
        "",
        "x",
        "203.0.113.0/8",
        "203.0.113.0/25",
        "203.0.113.9/24",
        "1.2.3",
        "2001:db8::/32",
        peer + "x",
    ):
        with pytest.raises(Refused) as refusal:
            subject_of(text)
        assert refusal.value.code == "network.subject"
