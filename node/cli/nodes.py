"""What commands show of the nodes that they asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fondaco.node.tenant.heads import NodeStanding
    from fondaco.node.tenant.light import LightClient


async def found_out(light: LightClient) -> dict[str, Any]:
    """Which nodes withheld how many answers to orders, and which were left out for what they did.

    Where one lacks what others told, this waits until it had its time.
    """
    await light.wait_heard_out()
    standings = light.standings()
    return {
        "withheld": {one.peer: one.withheld for one in standings if one.withheld},
        "left_out": {one.peer: one.fault for one in standings if one.fault},
    }


def plain(standing: NodeStanding) -> dict[str, Any]:
    return {
        "peer": standing.peer,
        "height": standing.height,
        "behind_blocks": standing.behind,
        "behind_ms": standing.behind_ms,
        "fault": standing.fault,
    }


def line(standing: NodeStanding) -> str:
    """One node, for people."""
    if standing.fault:
        return f"{standing.peer}  left out: {standing.fault}"
    if standing.height is None:
        return f"{standing.peer}  shows no block"
    behind = f", {standing.behind} behind ({standing.behind_ms} ms)" if standing.behind else ""
    return f"{standing.peer}  height {standing.height}{behind}"
