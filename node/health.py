"""Whether a node does what it is there for: a word for each part of it, for supervisors and for people."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

import trio

from fondaco.node import clock
from fondaco.node.app import Node
from fondaco.protocol.errors import FondacoError
from fondaco.protocol.limits import MIB

STALE_HEARTBEATS = 3
"""A newest block older than so many heartbeats of the chain: it stands still, or this node does not follow."""
DISK_FREE_BYTES = 256 * MIB
"""With less a node that must write its journal will soon have to stop."""
RUNTIME_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a node, and how it is."""

    name: str
    healthy: bool
    detail: str


async def parts(node: Node) -> tuple[Part, ...]:
    """All of them: `chain`, `peers`, `disk`; of a provider `provider` and `runtime`, too."""
    return tuple([part async for part in _parts(node)])


async def _parts(node: Node) -> AsyncIterator[Part]:
    age_ms = max(0, clock.now() - node.chain.head.time)
    fresh = age_ms <= STALE_HEARTBEATS * node.chain.ledger.params.heartbeat_ms
    yield Part(name="chain", healthy=fresh, detail=f"block {node.chain.head.height}, {age_ms / 1_000:.1f} s old")
    peers = len(node.host.peers())
    # A chain of one validator needs nobody.
    alone = node.config.validator and len(node.chain.ledger.validators.members) == 1
    yield Part(name="peers", healthy=peers > 0 or alone, detail=f"{peers} connected")
    free = await trio.to_thread.run_sync(lambda: shutil.disk_usage(node.config.data).free)
    yield Part(name="disk", healthy=free >= DISK_FREE_BYTES, detail=f"{free // MIB} MiB free")
    if node.config.provider is not None:
        serves = node.ready.is_set()
        yield Part(name="provider", healthy=serves, detail="answers orders" if serves else "is not registered yet")
        yield await _runtime(node)


async def _runtime(node: Node) -> Part:
    if node.provider is None:
        return Part(name="runtime", healthy=False, detail="is not there yet")
    try:
        with trio.fail_after(RUNTIME_TIMEOUT_S):
            found = await node.provider.agent.runtime.list()
    except FondacoError as error:
        return Part(name="runtime", healthy=False, detail=f"{error.message} [{error.code}]")
    except trio.TooSlowError:
        return Part(name="runtime", healthy=False, detail=f"no answer within {RUNTIME_TIMEOUT_S:.0f} s")
    return Part(name="runtime", healthy=True, detail=f"{len(found)} workloads")
