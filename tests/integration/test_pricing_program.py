"""The operator's pricing program as the process it is: asked, bounded, and killed with all it started."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import trio
from tests.support.workloads import key, unit

from fondaco.node.pricing_program import PricingProgram
from fondaco.protocol import addresses
from fondaco.protocol.errors import Refused
from fondaco.provider.pricing.program import question

QUESTION = question((unit(cpu=2_500),), 6_000)


async def ask(*argv: str, timeout_ms: int = 20_000) -> Fraction:
    return await PricingProgram(argv, timeout_ms=timeout_ms).ask(QUESTION, key(1))


async def refusal(*argv: str, timeout_ms: int = 20_000) -> str:
    with pytest.raises(Refused) as caught:
        await ask(*argv, timeout_ms=timeout_ms)
    assert caught.value.code == "pricing.program"
    return caught.value.message


async def test_a_program_reads_the_order_and_prints_a_price_for_six_seconds() -> None:
    code = "import json, sys; print(json.load(sys.stdin)['resources'][0]['cpu'] / 1000)"
    assert await ask(sys.executable, "-c", code) == 1_500


async def test_a_program_need_not_read_and_knows_the_tenant() -> None:
    assert await ask("sh", "-c", f'test "$AKASH_OWNER" = {addresses.encode(key(1))} && echo 1 | cat') == 600


async def test_what_goes_wrong_is_said() -> None:
    assert "does not start" in await refusal("/nonexistent/program")
    assert "ended with 3: no idea" in await refusal("sh", "-c", "echo first >&2; echo no idea >&2; exit 3")
    assert "ended with 1" in await refusal("sh", "-c", "exit 1")
    assert "which is no decimal" in await refusal("echo", "a lot")
    assert "wants no price" in await refusal("echo", "0")


async def test_a_program_that_prints_without_end_is_cut_off() -> None:
    assert "printed more than 256 bytes" in await refusal("yes")
    assert await ask("sh", "-c", "yes no | head -c 1000000 >&2; echo 2") == 1_200


async def test_a_slow_program_is_killed_with_its_children_and_the_others_go_on(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = f"sh -c 'echo $$ > {mark}.tmp; mv {mark}.tmp {mark}; sleep 1000' & wait"
    done = trio.Event()

    async def meanwhile() -> None:
        while not mark.exists():
            await trio.sleep(0.01)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meanwhile)
        with trio.fail_after(30):
            assert "took more than 1000 ms" in await refusal("sh", "-c", script, timeout_ms=1_000)
            await done.wait()
    child = int(mark.read_text())
    with trio.fail_after(10):
        while _alive(child):
            await trio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_provider_that_is_stopped_leaves_no_program_behind(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    program = PricingProgram(("sh", "-c", f"echo $$ > {mark}; exec sleep 1000"), timeout_ms=60_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.ask, QUESTION, key(1))
        with trio.fail_after(20):
            while not (mark.exists() and mark.read_text().strip()):
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not os.path.exists(f"/proc/{mark.read_text().strip()}")
