"""Which addresses a tenant's image may lead a provider to."""

from __future__ import annotations

import pytest

from fondaco.provider.images.guarded import is_public


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "140.82.121.33", "2606:4700::6810:84e5", "2a00:1450:4001:81b::200e", "64:ff9b::808:808"],
)
def test_public_addresses_are_connected_to(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250"),
        *("240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
        *("2001:0:a9fe:a9fe::1", "::169.254.169.254", "4000::1"),
    ],
)
def test_private_addresses_are_not_however_they_are_written(address: str) -> None:
    assert not is_public(address)
