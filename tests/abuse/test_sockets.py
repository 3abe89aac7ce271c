"""Attacks that never get as far as a protocol: the job goes on, and what they took is given back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.siege import besieged

pytestmark = [pytest.mark.abuse, pytest.mark.e2e, pytest.mark.timeout(900)]
TARGETS = ["validator-0"]
SERVED_MS = 10_000
"""A newcomer is answered within this though others hold or ask for everything; alone in a third of a second."""


async def test_the_job_goes_on_under_attacks_on_connections_streams_and_windows(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        seen = await siege.under("mute_sockets", targets=TARGETS, count=1_000, addresses=8)
        assert max(seen["newcomer_ms"]) < SERVED_MS, seen
        seen = await siege.under("handshakes", targets=TARGETS, seconds=8)
        assert max(seen["newcomer_ms"]) < SERVED_MS, seen
        await siege.recovered()
        await siege.under("half_open_streams", targets=TARGETS, count=3_000)
        before = (await siege.recovered())["validator-0"]["host"]
        assert before["streams_over_limit"] >= 1_000
        assert before["peer_faults"] >= 4
        seen = await siege.under("windows_ignored", targets=TARGETS, megabytes=200)
        assert seen["hung_up"]
        await siege.under("windows_overflowing", targets=TARGETS)
        after = (await siege.recovered())["validator-0"]["host"]
        assert after["peer_faults"] >= before["peer_faults"] + 2
        await siege.under("answers_unread", targets=TARGETS, seconds=8)
        await siege.recovered()
