"""What a node can tell of its part in the network: `fondaco net`, and `/net` of the API.

    peers, mesh, bans    tables of what is                     standing   all that is known of one peer
    why                  from that alone: what stands in the way of hearing it

Moments are milliseconds since 1970 as everywhere in the API; inside the host they are seconds of trio's clock,
which `epoch_ms` translates.
"""

from __future__ import annotations

from fondaco.node import clock


def epoch_ms(moment_s: float, now_s: float) -> int:
    """A moment of trio's clock as the wall has it; `now_s` is that clock now."""
    return round(clock.now() + (moment_s - now_s) * 1_000)


def topic_of(name: str) -> str:
    """A topic's short name: the last part of the one on the wire."""
    return name.rpartition("/")[2]


def span(ms: float) -> str:
    """A length of time as a person reads it."""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    seconds = round(ms / 1_000)
    if seconds < 120:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
