"""A minute of spoilt frames on every protocol of two nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.siege import besieged

pytestmark = [pytest.mark.abuse, pytest.mark.e2e, pytest.mark.timeout(600)]


async def test_the_job_goes_on_under_a_minute_of_fuzz(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        seen = await siege.under("fuzz", targets=["validator-0", "provider-0"], seconds=60, seed=1)
        assert seen["cut_off"] > 10
        counted = await siege.recovered()
        assert counted["validator-0"]["host"]["bans"] > 5
