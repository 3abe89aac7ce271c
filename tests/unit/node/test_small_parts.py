"""The bell, the clock, groups of exceptions, log lines, and the time line of a tenant's steps."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import trio
import trio.testing

from fondaco.node import clock, logs
from fondaco.node.groups import unwrapped
from fondaco.node.news import News
from fondaco.node.tenant.progress import Progress, Timeline, quiet
from fondaco.protocol.errors import Refused, Unreachable


async def test_a_ring_wakes_everybody_who_waits_and_nobody_who_comes_after() -> None:
    news, woken = News(), []

    async def wait(name: str) -> None:
        await news.next.wait()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("one", "two"):
            nursery.start_soon(wait, name)
        await trio.testing.wait_all_tasks_blocked()
        news.ring()
        nursery.start_soon(wait, "late")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["one", "two"]
        nursery.cancel_scope.cancel()


async def test_what_changes_between_looking_and_waiting_is_not_missed() -> None:
    news = News()
    waiting = news.next
    news.ring()
    with trio.fail_after(1):
        await waiting.wait()


def test_the_clock_counts_milliseconds_since_the_epoch() -> None:
    assert abs(clock.now() - time.time() * 1_000) < 5_000


def test_one_error_of_ours_comes_out_of_any_number_of_groups() -> None:
    inner = Refused("a.b", "message")
    with pytest.raises(Refused) as refusal, unwrapped():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [inner, Unreachable("c.d", "later")])])
    assert refusal.value is inner


def test_a_bug_beside_an_error_of_ours_is_never_hidden() -> None:
    for group in (
        ExceptionGroup("both", [Refused("a.b", "message"), ZeroDivisionError()]),
        ExceptionGroup("only", [ZeroDivisionError()]),
    ):
        with pytest.raises(ExceptionGroup) as error, unwrapped():
            raise group
        assert error.value is group


def test_what_is_no_group_passes_as_it_is() -> None:
    with pytest.raises(KeyError), unwrapped():
        raise KeyError
    with unwrapped():
        pass


@pytest.fixture
def _logging() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "fondaco", "libp2p")]
    before = [(one, one.level, one.handlers[:]) for one in loggers]
    yield
    for one, level, handlers in before:
        one.setLevel(level)
        one.handlers[:] = handlers


@pytest.mark.usefixtures("_logging")
def test_ours_are_told_from_info_up_and_libraries_from_warnings_up(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure()
    logging.getLogger("fondaco.x").info("told")
    logging.getLogger("fondaco.x").debug("not told")
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("trouble")
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["told", "trouble"]
    logs.configure(verbose=True)
    logging.getLogger("fondaco.x").debug("detail")
    assert "detail" in capsys.readouterr().err


@pytest.mark.usefixtures("_logging")
def test_commands_tell_only_what_a_person_should_know(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_quiet()
    logging.getLogger("fondaco.x").info("detail")
    logging.getLogger("libp2p").error("chatter")
    logging.getLogger("fondaco.x").warning("trouble")
    assert capsys.readouterr().err.splitlines()[0].endswith("trouble")


@pytest.mark.usefixtures("_logging")
def test_what_an_event_is_about_follows_its_words_and_nothing_quoted_begins_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure()
    about = {"lease": "ab12", "code": "", "said": "a b\nc", "tries": 3}
    logging.getLogger("fondaco.x").info("workload\nended", extra=about)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r'workload\x0aended lease=ab12 code="" said="a b\nc" tries=3')


@pytest.mark.usefixtures("_logging")
def test_machines_get_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(as_json=True)
    logging.getLogger("fondaco.x").warning("it %s", "failed", extra={"lease": "ab12", "path": Path("/x")})
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("fondaco.x").exception("broke")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    moment = datetime.fromisoformat(first.pop("time"))
    assert abs(moment.timestamp() - time.time()) < 60
    assert first == {
        "level": "warning",
        "logger": "fondaco.x",
        "message": "it failed",
        "lease": "ab12",
        "path": "/x",
    }
    assert "ValueError: why" in second["exception"]


def test_the_first_mark_counts_and_none_before_the_start() -> None:
    line = Timeline()
    line.mark("lease")
    assert line.marks == {}
    line.start()
    line.mark("lease")
    first = dict(line.marks)
    assert 0 <= first["lease"] < 1_000
    line.mark("lease")
    assert line.marks == first
    line.start()
    assert line.marks == {}
    quiet(Progress("step", "detail"))
