import pytest

from fondaco.node.network.localities import Reach, block, may_tell, reach, region


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", Reach.HERE),
        ("::1", Reach.HERE),
        ("::ffff:127.0.0.1", Reach.HERE),
        ("10.1.2.3", Reach.NEAR),
        ("169.254.1.1", Reach.NEAR),
        ("fe80::1", Reach.NEAR),
        ("8.8.8.8", Reach.EVERYWHERE),
        ("2600::1", Reach.EVERYWHERE),
        ("0.0.0.0", Reach.NOWHERE),
        ("::", Reach.NOWHERE),
        ("224.0.0.1", Reach.NOWHERE),
        ("255.255.255.255", Reach.NOWHERE),
    ],
)
def test_how_near_an_address_is(ip: str, expected: Reach) -> None:
    assert reach(ip) is expected


def test_networks_are_those_that_one_operator_has_together() -> None:
    assert (region("8.8.4.4"), block("8.8.4.4")) == ("8.8.0.0/16", "8.8.4.0/24")
    assert (region("2600:1:2:3::4"), block("2600:1:2:3::4")) == ("2600:1::/32", "2600:1:2:3::/64")
    assert region("::ffff:8.8.4.4") == region("8.8.4.4")
    assert region("127.0.0.1") == block("10.0.0.1") == ""


def test_nobody_tells_of_addresses_nearer_than_itself() -> None:
    assert may_tell(Reach.HERE, "127.0.0.1")
    assert may_tell(Reach.NEAR, "10.0.0.1")
    assert not may_tell(Reach.NEAR, "127.0.0.1")
    assert not may_tell(Reach.EVERYWHERE, "10.0.0.1")
    assert may_tell(Reach.EVERYWHERE, "8.8.8.8")
    assert not may_tell(Reach.HERE, "0.0.0.0")
