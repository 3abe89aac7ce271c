"""Processes that begin with everything loaded."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing
from tests.support.children import running

from fondaco import __version__
from fondaco.node import forked
from fondaco.node.forked import Forked

FOREVER = """
import sys, trio
from pathlib import Path
from fondaco.node import testnet

async def main():
    home = Path(sys.argv[1])
    async with testnet.running(testnet.create(home, validators=1, providers=0)) as network:
        print(network.pid("validator-0"))
        await trio.sleep_forever()

trio.run(main)
"""

WAITING = ["sdl", "check", "/dev/stdin"]
"""A command that goes on until its input ends."""


async def printed(process: Forked) -> bytes:
    text = b""
    async for chunk in process.stdout:
        text += chunk
    return text


async def test_a_command_prints_logs_and_ends_as_if_it_had_been_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n", encoding="utf-8")
    good = await Forked.start(["--version"], log)
    assert await printed(good) == f"fondaco, version {__version__}\n".encode()
    assert await good.wait() == 0
    wrong = await Forked.start(["sing"], log)
    assert await wrong.wait() == 2
    assert await printed(wrong) == b""
    before, *said = log.read_text(encoding="utf-8").splitlines()
    assert before == "before"
    assert "No such command 'sing'" in said[-1]
    for process in (good, wrong):
        assert process.poll() is not None
        process.kill()  # is of no consequence
        await process.aclose()


async def test_it_has_our_folder_and_environment_of_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Forked.start(["--version"], tmp_path / "log")).wait()
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("version: '1.0'\n", encoding="utf-8")
    process = await Forked.start(["sdl", "check", "mine.yaml"], Path("log"))
    assert b"mine.yaml" in await printed(process)
    assert await process.wait() == 1
    monkeypatch.setenv("_FONDACO_COMPLETE", "bash_source")
    asked = await Forked.start([], Path("log"))
    assert b"_fondaco_completion" in await printed(asked)
    assert await asked.wait() == 0


async def test_it_is_seen_by_its_own_name_in_a_session_of_its_own_and_ended_by_signals(tmp_path: Path) -> None:
    waiting = [await Forked.start(WAITING, tmp_path / "log") for _ in range(2)]
    assert [process.poll() for process in waiting] == [None, None]
    assert len({os.getsid(process.pid) for process in waiting} - {os.getsid(0)}) == 2
    with trio.fail_after(10):
        while psutil.Process(waiting[0].pid).cmdline()[-4:] != ["fondaco", *WAITING]:
            await trio.sleep(0.01)
    codes = {}

    async def wait(name: str, process: Forked) -> None:
        codes[name] = await process.wait()

    async with trio.open_nursery() as nursery:
        for name in ("one", "another"):
            nursery.start_soon(wait, name, waiting[0])
        nursery.start_soon(wait, "last", waiting[1])
        await trio.testing.wait_all_tasks_blocked()
        waiting[0].terminate()
        waiting[1].kill()
    assert codes == {"one": -signal.SIGTERM, "another": -signal.SIGTERM, "last": -signal.SIGKILL}


async def test_where_the_one_that_forks_is_gone_another_takes_its_place(tmp_path: Path) -> None:
    orphan = await Forked.start(WAITING, tmp_path / "log")
    server = psutil.Process(orphan.pid).parent()
    assert server is not None
    server.kill()
    assert await orphan.wait() == forked.LOST
    assert psutil.pid_exists(orphan.pid), "it goes on"
    await orphan.aclose()
    with trio.fail_after(10):
        while psutil.pid_exists(orphan.pid):
            await trio.sleep(0.02)
    process = await Forked.start(["--version"], tmp_path / "log")
    assert await process.wait() == 0


def test_whoever_starts_a_network_and_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with running(FOREVER, tmp_path / "home") as child:
        assert child.stdout is not None
        node = psutil.Process(int(child.stdout.readline()))
        server = node.parent()
        assert server is not None
        assert server.parent() == psutil.Process(child.pid)
        child.kill()
        _, alive = psutil.wait_procs([node, server], timeout=20)
    assert alive == []
