"""Floods of messages, bad, good and old: offenders are cut off, the rest waits in line, and the job goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.siege import besieged

from fondaco.protocol import limits

pytestmark = [pytest.mark.abuse, pytest.mark.e2e, pytest.mark.timeout(900)]
TARGETS = ["validator-0"]
TEN_TIMES = 10 * limits.BOOK_ORDERS_PER_TENANT


async def test_the_job_goes_on_under_floods(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        seen = await siege.under("invalid_flood", targets=TARGETS)
        assert all(banned for _, banned in seen.values()), seen
        await siege.recovered()
        seen = await siege.under("replays", targets=TARGETS, within_s=60)
        assert seen["banned"], seen
        await siege.recovered()
        seen = await siege.under("valid_flood", targets=TARGETS, count=TEN_TIMES, rate=2_000)
        assert all(seen[f"{topic} by gossip"] >= TEN_TIMES for topic in ("orders", "bids", "transactions")), seen
        assert seen["orders by request"]["book.tenant_quota"], seen
        assert seen["transactions by request"]["mempool.quota"], seen
        for name, measures in (await siege.measures()).items():
            assert measures["book"]["orders"] <= limits.BOOK_ORDERS_PER_TENANT + siege.jobs, name
        await siege.recovered()
