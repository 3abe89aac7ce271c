"""One network for all lies that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import false_streams
from tests.support.malice import Network
from tests.support.testnets import testnet


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A validator and two providers, as processes: each is a whole node."""
    home = tmp_path_factory.mktemp("network") / "home"
    with testnet(home, validators=1, providers=2) as told:
        false_streams.CHAIN[0] = told["chain"]
        yield Network(home)
