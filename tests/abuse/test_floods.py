"""Floods of messages, bad, good and old: offenders are cut off, the rest waits in line, and the job goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.siege import besieged

pytestmark = [pytest.mark.abuse, pytest.mark.e2e, pytest.mark.timeout(600)]
TARGETS = ["validator-0"]


async def test_the_job_goes_on_under_floods(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        seen = await siege.under("invalid_flood", targets=TARGETS)
        assert all(banned for _, banned in seen.values()), seen
        await siege.recovered()
        seen = await siege.under("replays", targets=TARGETS, within_s=60)
        assert seen["banned"], seen
        await siege.recovered()
        seen = await siege.under("valid_flood", targets=TARGETS, seconds=15, rate=2_000)
        await siege.recovered()
