"""What the validators of a network say of themselves."""

from __future__ import annotations

from typing import Any

import httpx
import trio

from fondaco.node.testnet import Plan

Measures = dict[str, dict[str, Any]]
"""What each validator says of itself, by name."""


async def ask(plan: Plan) -> Measures:
    """All asked at once."""
    answers: Measures = {}

    async def one(name: str, api: str) -> None:
        answers[name] = (await client.get(f"{api}/measures")).raise_for_status().json()

    async with httpx.AsyncClient(timeout=30) as client, trio.open_nursery() as nursery:
        for member in plan.members:
            if member.role == "validator":
                nursery.start_soon(one, member.name, member.api)
    return answers
