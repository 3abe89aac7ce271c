"""Ports for networks on one machine: no two networks are given the same one, and no outgoing connection takes it.

A port that was found free a moment ago may be gone when a node wants to listen on it: another network was given
it, or the system gave it to somebody's outgoing connection. So ports lie below those that the system gives, and
whoever is given one holds it, by a datagram socket that nothing is sent to, so that others see that it is taken.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections import deque
from pathlib import Path

HOST = "127.0.0.1"
FIRST_PORT, FIRST_OUTGOING_PORT = 10_000, 32_768
ATTEMPTS = 1_000
HELD = 256
"""Ports that one process holds at a time; of older ones their nodes are up, or gone."""
_held: deque[int] = deque()
"""Descriptors, oldest first; the system closes them with the process."""


def free_port() -> int:
    """A loopback port that nothing listens on, and that nobody else who asks is given for now.

    Raises `OSError` where there is none.
    """
    ports = range(FIRST_PORT, _first_outgoing())
    for _ in range(ATTEMPTS):
        port = random.choice(ports)
        with contextlib.suppress(OSError):
            _hold(port)
            return port
    raise OSError(f"found no free port from {ports.start} to {ports.stop - 1} on {HOST}")


def _hold(port: int) -> None:
    """Raises `OSError` if the port is held or in use."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        holder.bind((HOST, port))
        with socket.socket() as probe:
            probe.bind((HOST, port))
    except OSError:
        holder.close()
        raise
    _held.append(holder.detach())
    if len(_held) > HELD:
        os.close(_held.popleft())


def _first_outgoing() -> int:
    try:
        low, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return FIRST_OUTGOING_PORT
    return max(int(low), FIRST_PORT + 1_000)
