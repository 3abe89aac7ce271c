"""More liars than honest nodes: one honest node is enough against what can be proven, and none is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.jobs import check_right, whole_job
from tests.support.lies import LIES
from tests.support.malice import Network, lying

from fondaco.protocol.errors import Unreachable

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
PAIRS = [
    ("a balance with the proof of another", "refused, of what was applied"),
    ("that a lease is active", "cheaper bids than were made"),
    ("applied, of what it dropped", "that there is no lease"),
]


@pytest.mark.parametrize(
    "names",
    [pytest.param(names, marks=[pytest.mark.heavy] * bool(number)) for number, names in enumerate(PAIRS)],
    ids=" and ".join,
)
async def test_one_honest_node_is_enough_where_two_lie_provably(
    network: Network, tmp_path: Path, names: tuple[str, str]
) -> None:
    lies = [LIES[name] for name in names]
    async with lying(network, tmp_path / "home", *lies, honest=("validator-0",)) as (tenant, liars):
        check_right(network, await whole_job(tenant))
        left_out = {liar.peer for liar in liars if liar.peer in tenant.light.faults}
        assert left_out == tenant.light.faults.keys(), "no honest one"
        assert liars[0].peer in left_out


async def test_where_all_lie_it_is_said_so(network: Network, tmp_path: Path) -> None:
    lies = [LIES["a balance with the proof of another"]] * 3
    async with lying(network, tmp_path / "home", *lies, honest=()) as (tenant, _):
        with pytest.raises(Unreachable) as error:
            await whole_job(tenant)
        assert error.value.code == "light.all_lied"
        assert tenant.light.peers == []
