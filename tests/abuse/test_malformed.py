"""Input that is none, in every layer and protocol: it is counted against its sender, and the job goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.siege import besieged

pytestmark = [pytest.mark.abuse, pytest.mark.e2e, pytest.mark.timeout(900)]
TARGETS = ["validator-0", "provider-0"]


async def test_the_job_goes_on_under_every_kind_of_malformed_input_and_a_minute_of_fuzz(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        await siege.under("malformed", targets=TARGETS)
        counted = await siege.recovered()
        assert all(counted[name]["host"]["peer_faults"] > 100 for name in TARGETS)
        seen = await siege.under("fuzz", targets=TARGETS, seconds=60, seed=1)
        assert seen["cut_off"] > 10
        counted = await siege.recovered()
        assert counted["validator-0"]["host"]["bans"] > 5
