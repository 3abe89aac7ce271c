"""Many peers against one node: they earn no trust, and it goes on hearing what honest peers say."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.siege import besieged

pytestmark = [pytest.mark.abuse, pytest.mark.e2e, pytest.mark.timeout(900)]


async def test_the_job_goes_on_among_sybils_and_no_node_is_eclipsed(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        seen = await siege.under("sybils", targets=["validator-0"], count=50, seconds=12)
        counted = (await siege.recovered())["validator-0"]["mesh"]
        assert counted["promises_broken"] > 10
        assert seen["pruned"] >= 50, "out of every mesh"
        assert counted["graylisted"] >= 100, "and not heard"
        seen = await siege.under("eclipse", targets=["validator-1", "provider-0"], count=60, seconds=15)
        assert len(seen["order_heard_after_s"]) == 5
        assert max(seen["order_heard_after_s"]) < 10
        await siege.recovered()
