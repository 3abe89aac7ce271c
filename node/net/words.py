"""The answers of `/net` as lines for people. Works on what the API says; needs nothing of the node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fondaco.node.net import span

HINDRANCES = {
    "connection": "not connected",
    "gossip": "not heard",
    "mesh": "not in the mesh",
    "nothing": "by the way",
}


def peer_lines(found: Sequence[Any], *, now_ms: int) -> Iterator[str]:
    rows = [["peer", "address", "way", "age", "rtt ms", "score", "parts", "streams", "queued", "shed", "faults"]]
    for one in found:
        queues = one["queues"]
        rows.append(
            [
                one["id"],
                one["address"],
                "out" if one["outbound"] else "in",
                span(max(0, now_ms - one["connected_at"])),
                "-" if one["round_trip_ms"] is None else f"{one['round_trip_ms']:.1f}",
                f"{one['score']['total']:.1f}",
                _parts(one["score"]),
                str(len(one["streams"])),
                f"{sum(queue['frames'] for queue in queues)}/{sum(queue['bytes'] for queue in queues)} B",
                str(sum(queue["shed"] for queue in queues)),
                str(one["faults"]),
            ]
        )
    yield from _table(rows, nothing="no peer is connected")


def _parts(score: Any) -> str:
    """Those that are not nothing."""
    parts = [f"{name}={value:+.1f}" for name, value in score.items() if name != "total" and round(value, 1)]
    return " ".join(parts) or "-"


def mesh_lines(found: Sequence[Any], *, now_ms: int) -> Iterator[str]:
    for one in found:
        members = one["mesh"]
        yield f"{one['topic']}: {len(members)} in the mesh, {len(one['outside'])} outside" + (
            "" if one["wanted"] else "; we do not want it"
        )
        rows = [["peer", "where", "score", "since"]]
        for where, some in (("mesh", members), ("outside", one["outside"])):
            for member in some:
                since = "-" if member["since"] is None else span(max(0, now_ms - member["since"]))
                rows.append([member["id"], where, f"{member['score']:.1f}", since])
        rows += [[peer, "fan-out", "-", "-"] for peer in one["fanout"]]
        rows += [[wait["id"], f"back-off, {span(wait['left_ms'])} left", "-", "-"] for wait in one["backoffs"]]
        yield from _table(rows, nothing="nobody wants it")
        counts = [f"{name} {count}" for name, count in one["messages"].items()]
        yield f"  batches: {', '.join(counts)}"
        rates = [f"{name} {rate:g}" for name, rate in one["per_minute"].items() if rate]
        yield f"  a minute: {', '.join(rates) or 'none'}"
        yield ""


def ban_lines(found: Sequence[Any]) -> Iterator[str]:
    rows = [["subject", "by", "left", "reason"]]
    rows += [[one["subject"], one["by"], span(one["left_ms"]), one["reason"]] for one in found]
    yield from _table(rows, nothing="nobody is banned")


def why_lines(answer: Any) -> Iterator[str]:
    known = ", ".join(answer["known_from"])
    yield f"{answer['peer']}: {'connected' if answer['connected'] else 'not connected'}" + (
        f"; known from {known}" if known else ""
    )
    if answer["in_mesh"]:
        yield f"  in the mesh of {', '.join(answer['in_mesh'])}"
    for one in answer["reasons"]:
        yield f"  {HINDRANCES[one['hinders']]}: {one['message']} [{one['code']}]"
    if answer["clear"]:
        yield "  nothing is in its way"


def _table(rows: list[list[str]], *, nothing: str) -> Iterator[str]:
    """The first row names the columns."""
    if len(rows) == 1:
        yield f"  {nothing}"
        return
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
