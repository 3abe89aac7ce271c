"""A js-libp2p peer in a process of its own; see tests/interop/peer.mjs for what it is told and says."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from tests.support.network import PATIENCE_S

from fondaco.node.network.peers import Address, PeerId

FOLDER = Path(__file__).parents[1] / "interop"
OLDEST_NODE = (20, 19)
START_S = 30.0
STOP_S = 10.0


def missing() -> str:
    """Why no such peer can be started here; empty if one can."""
    node = shutil.which("node")
    if node is None:
        return "there is no node on the PATH"
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if tuple(int(part) for part in version.removeprefix("v").split(".")[:2]) < OLDEST_NODE:
        return f"node {version} is older than {'.'.join(map(str, OLDEST_NODE))}"
    if not (FOLDER / "node_modules").is_dir():
        return "js-libp2p is not installed: `make interop` does that, with npm"
    return ""


def demanded() -> bool:
    """Whether tests may not be skipped for want of it."""
    return os.environ.get("CI") == "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A gossip message as js-libp2p handed it to its application."""

    topic: str
    data: bytes
    source: PeerId
    """The neighbour it came from first."""
    identity: bytes


class JsError(Exception):
    """A command failed over there; its error's name and message."""


class JsPeer:
    """A running peer; `js_peer` makes one."""

    def __init__(self, process: trio.Process, peer: PeerId, address: Address) -> None:
        self.peer = peer
        self.address = address
        self.heard: list[Heard] = []
        self._process = process
        self._asked = 0
        self._answers: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._sending = trio.Lock()

    def got(self, topic: str) -> list[bytes]:
        """The messages heard of `topic`, in order."""
        return [message.data for message in self.heard if message.topic == topic]

    async def ask(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Have a command carried out. Raises `JsError` if it fails there."""
        self._asked += 1
        identity = self._asked
        answered, answer = trio.open_memory_channel[dict[str, Any]](1)
        self._answers[identity] = answered
        line = json.dumps({"id": identity, "do": command, **parameters}).encode() + b"\n"
        assert self._process.stdin is not None
        with trio.fail_after(PATIENCE_S):
            async with self._sending:
                await self._process.stdin.send_all(line)
            said = await answer.receive()
        if "error" in said:
            raise JsError(said["error"])
        result: dict[str, Any] = said["result"]
        return result

    async def dial(self, address: Address) -> None:
        await self.ask("dial", address=address)

    async def publish(self, topic: str, data: bytes) -> int:
        """How many neighbours it was sent to."""
        said = await self.ask("publish", topic=topic, data=base64.b64encode(data).decode())
        recipients: int = said["recipients"]
        return recipients

    async def subscribers(self, topic: str) -> set[PeerId]:
        return {PeerId(peer) for peer in (await self.ask("neighbours", topic=topic))["subscribers"]}

    async def mesh(self, topic: str) -> set[PeerId]:
        return {PeerId(peer) for peer in (await self.ask("neighbours", topic=topic))["mesh"]}

    def _take(self, line: dict[str, Any]) -> None:
        if line.get("event") == "message":
            self.heard.append(
                Heard(
                    topic=line["topic"],
                    data=base64.b64decode(line["data"]),
                    source=PeerId(line["from"]),
                    identity=bytes.fromhex(line["id"]),
                )
            )
        else:
            self._answers.pop(line["id"]).send_nowait(line)


async def _lines(process: trio.Process) -> AsyncIterator[dict[str, Any]]:
    assert process.stdout is not None
    rest = b""
    async for chunk in process.stdout:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield json.loads(line)


@contextlib.asynccontextmanager
async def js_peer(**options: str) -> AsyncIterator[JsPeer]:
    """Start a peer; it is gone at the end. What it writes to stderr goes where ours does."""
    command = ["node", str(FOLDER / "peer.mjs"), json.dumps(options)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    lines = _lines(process)
    try:
        with trio.fail_after(START_S):
            started = await anext(lines, None)
        assert started is not None, "it did not start: see what it wrote to stderr"
        peer = JsPeer(process, PeerId(started["peer"]), Address(started["addresses"][0]))

        async def listen() -> None:
            async for line in lines:
                peer._take(line)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(STOP_S):
                await process.wait()
            process.kill()
            await process.wait()
