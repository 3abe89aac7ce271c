"""Ports of local networks: given to one who asks, and to no outgoing connection."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fondaco.node import loopback


def test_ports_are_handed_out_once() -> None:
    ports = [loopback.free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert all(10_000 <= loopback.free_port() < low for _ in range(20))


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        port = loopback.free_port()
        os.close(loopback._held.pop())
        taken.bind(("127.0.0.1", port))
        taken.listen()
        monkeypatch.setattr(random, "choice", lambda _: port)
        with pytest.raises(OSError, match="found no free port"):
            loopback.free_port()


def test_another_process_is_not_given_a_port_that_is_held_here(monkeypatch: pytest.MonkeyPatch) -> None:
    port = loopback.free_port()
    program = (
        f"from fondaco.node import loopback;loopback.random.choice = lambda _: {port};print(loopback.free_port())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "found no free port" in answer.stderr
    os.close(loopback._held.pop())
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(answer.stdout) == port


def test_only_so_many_ports_are_held() -> None:
    for _ in range(loopback.HELD + 1):
        loopback.free_port()
    assert len(loopback._held) == loopback.HELD
