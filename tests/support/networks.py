"""Whole networks of processes on loopback, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from fondaco.node import testnet
from fondaco.node.testnet import Testnet


@asynccontextmanager
async def network(
    home: Path, *, validators: int = 4, providers: int = 0, initial_height: int = 1
) -> AsyncIterator[Testnet]:
    """Make a network in `home`, or go on with the one that is there, and run it."""
    if (home / "testnet.json").exists():
        plan = testnet.Plan.load(home)
    else:
        plan = testnet.create(home, validators=validators, providers=providers, initial_height=initial_height)
    async with testnet.running(plan) as running:
        yield running


async def height_of(running: Testnet) -> int:
    """What the first validator's API says."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{running.plan.members[0].api}/status")
    height: int = answer.json()["height"]
    return height
