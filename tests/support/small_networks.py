"""A few whole nodes in this process, each with its API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio
from tests.support.network import PATIENCE_S

from fondaco.node import testnet
from fondaco.node.app import Node, open_node
from fondaco.node.config import load
from fondaco.node.operator_token import read_token


@dataclass
class Asked:
    """A node, and whoever asks it."""

    node: Node
    client: httpx.AsyncClient

    @property
    def id(self) -> str:
        return self.node.host.peer_id

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def as_operator(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {read_token(self.node.config.data)}"}
        return await self.client.request(method, path, headers=headers, **request)

    async def codes(self, peer: str) -> list[str]:
        return [one["code"] for one in (await self.get("/net/why-not", peer=peer))["reasons"]]


@asynccontextmanager
async def network(home: Path, validators: int = 2, providers: int = 0) -> AsyncIterator[list[Asked]]:
    """Validators that have agreed on a block and are all in each other's meshes; providers come last."""
    plan = testnet.create(home, validators=validators, providers=providers, every_api=True)
    async with AsyncExitStack() as stack:
        found = list[Asked]()
        for member in plan.members:
            settings = load(plan.home / "nodes" / member.name)
            node = await stack.enter_async_context(open_node(settings))
            client = httpx.AsyncClient(base_url=f"http://{settings.api}", timeout=20)
            found.append(Asked(node, await stack.enter_async_context(client)))
        with trio.fail_after(2 * PATIENCE_S):
            for one in found:
                await one.node.chain.wait_first_block()
                while not all(len(members) == len(plan.members) - 1 for members in meshes(one.node)):
                    await trio.sleep(0.01)
        yield found


def meshes(node: Node) -> list[Any]:
    return list(node.gossip.router.mesh.topics.values())
