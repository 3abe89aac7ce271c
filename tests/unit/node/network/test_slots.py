import resource
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.node.network.localities import block
from fondaco.node.network.slots import OTHER_FILES, Slots, connections_that_fit
from fondaco.protocol import limits

IPS = st.sampled_from(["", "127.0.0.1", "8.8.8.8", "8.8.8.9", "8.8.9.9", "2600::1", "2600::2"])


@given(steps=st.lists(st.tuples(st.booleans(), IPS), max_size=60))
def test_no_share_is_ever_exceeded_and_all_comes_back(steps: list[tuple[bool, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "CONNECTIONS_OUTBOUND", 2)
        patch.setattr(limits, "CONNECTIONS_PER_ADDRESS", 4)
        patch.setattr(limits, "CONNECTIONS_PER_NETWORK", 5)
        slots, held = Slots(14), Counter[str]()
        for come, ip in steps:
            if come:
                network = block(ip) if ip else ""
                neighbours = sum(held[one] for one in held if one and block(one) == network)
                fits = held.total() < 12 and held[ip] < 4 and (not network or neighbours < 5)
                assert slots.take(ip) is fits
                held[ip] += fits
            elif held[ip]:
                slots.give(ip)
                held[ip] -= 1
        for ip in list(held.elements()):
            slots.give(ip)
        assert (slots.total, +slots.addresses, +slots.networks) == (0, {}, {})
        assert not [ip for ip, count in slots.addresses.items() if count]


def test_one_network_takes_no_more_than_its_share() -> None:
    slots = Slots(limits.CONNECTIONS)
    taken = [slots.take(f"8.8.8.{number}") for number in range(200)]
    assert sum(taken) == limits.CONNECTIONS_PER_NETWORK
    assert slots.take("8.8.9.1")
    assert all(slots.take(f"10.0.0.{number}") for number in range(200))


def test_some_connections_are_left_for_those_that_we_dial() -> None:
    slots = Slots(limits.CONNECTIONS_OUTBOUND + 10)
    assert sum(slots.take(f"10.0.0.{number}") for number in range(50)) == 10


def test_there_are_no_more_connections_than_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, hard), hard))
        fits = connections_that_fit()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert fits <= limits.CONNECTIONS
        assert fits + OTHER_FILES <= raised or fits == 2 * limits.CONNECTIONS_OUTBOUND
        assert raised == min(limits.CONNECTIONS + OTHER_FILES, hard)
        assert connections_that_fit() == fits
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
