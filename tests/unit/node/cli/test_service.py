"""`fondaco route`, `supervise` and `deploy --replicas`: what is wrong with options is said before all else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fondaco.node import demo
from fondaco.node.cli import cli
from fondaco.node.cli.service import watch_of

HELLO = str(demo.HELLO)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["route", "app", "--weight", "app.0"], "write REPLICA=N"),
        (["route", "app", "--listen", "8000x"], "write HOST:PORT"),
        (["route", "app", "--listen", "127.0.0.1:70000"], "write HOST:PORT"),
        (["route", "app", "--supervise", "--runway", "1h..2h"], "--budget UCREDIT"),
        (["supervise", "app", "--runway", "1h..2h"], "--budget UCREDIT"),
        (["supervise", "app", "--runway", "2h..1h", "--budget", "1"], "write it as 1h..6h"),
        (["supervise", "app", "--runway", "1h", "--budget", "1"], "write it as 1h..6h"),
        (["deploy", HELLO, "--replicas", "2", "--dry-run"], "--replicas goes without"),
        (["deploy", HELLO, "--replicas", "33"], "1<=x<=32"),
        (["deploy", HELLO, "--vantage", "no-such-file.json"], "does not exist"),
        (["latency", "measure", "--out", "x.json"], "--out needs --vantage NAME"),
        (["latency", "measure", "--samples", "101"], "1<=x<=100"),
    ],
)
def test_a_wrong_option_is_said_and_nothing_is_done(words: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, [*words, "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_windows_are_read_in_any_unit_of_time() -> None:
    watch = watch_of(every=1, away=2.5, unhealthy=60, runway="90m..1d", budget=7, path="/")
    assert watch.settings.runway_ms == (5_400_000, 86_400_000)
    assert (watch.settings.away_ms, watch.settings.unhealthy_ms, watch.settings.budget) == (2_500, 60_000, 7)
    assert watch_of(every=1, away=1, unhealthy=1, runway="", budget=None, path="/").settings.runway_ms is None
