"""What a provider keeps of leases that are over, and for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from tests.support.providers import FakeChain, inline_threads, make_lease, make_order

from fondaco.node.provider_host import LOG_RETENTION_MS, _forget
from fondaco.protocol.channel_calls import Happening
from fondaco.protocol.scalars import LeaseId, Millis
from fondaco.provider.lease_events import EventStore
from fondaco.provider.revocations import Revocations
from fondaco.provider.runtimes.embedded import EmbeddedRuntime
from fondaco.provider.runtimes.port import workload_id


async def test_output_and_events_go_a_day_after_their_lease_and_not_before(
    tmp_path: Path, autojump_clock: object, monkeypatch: Any
) -> None:
    inline_threads(monkeypatch)
    chain, runtime, events = FakeChain(), EmbeddedRuntime(tmp_path, []), EventStore(tmp_path / "events")
    revocations = Revocations(tmp_path / "revocations")
    chain.time = Millis(2 * LOG_RETENTION_MS)
    alive = make_lease(make_order(salt=1))
    recent, old = (
        replace(make_lease(make_order(salt=salt)), closed_at=Millis(chain.time - LOG_RETENTION_MS + ago))
        for salt, ago in ((2, 1), (3, -1))
    )
    for lease in (alive, recent, old):
        chain.leases[lease.id] = lease
    unknown = LeaseId(bytes(32))
    for identity in (alive.id, recent.id, old.id, unknown):
        (tmp_path / "logs" / workload_id(identity, "web")).mkdir()
        events.of(identity).add(Happening.STARTED)
        await revocations.add(identity, (), before=Millis(1), now=chain.time)
    with trio.move_on_after(1):
        agent: Any = SimpleNamespace(events=events, revocations=revocations)
        await _forget(chain, agent, runtime)  # type: ignore[arg-type]
    left = sorted((alive.id, recent.id))
    assert events.kept() == left
    assert revocations.kept() == left
    assert runtime.kept() == tuple(workload_id(identity, "web") for identity in left)
