"""The files in tests/scenarios say what the engine does in the situations that teach most; it does exactly that.

After a change that is meant, `pytest tests/unit/consensus/test_scenarios.py --rewrite-scenarios` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.scenarios import Player, replayed

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_engine_does_what_the_scenario_says(path: Path, request: pytest.FixtureRequest) -> None:
    written = path.read_text(encoding="utf-8")
    played = replayed(written)
    if request.config.getoption("--rewrite-scenarios"):
        path.write_text(played, encoding="utf-8")
    else:
        assert played == written


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_says_first_what_it_shows(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.endswith(".")
    assert not first.startswith((">", " "))


def test_a_scenario_that_the_engine_does_not_follow_fails() -> None:
    wrong = SCENARIOS[0].read_text(encoding="utf-8").replace("say prevote", "say precommit")
    assert replayed(wrong) != wrong


@pytest.mark.parametrize("command", ["prevot X from ann", "prevote Z r0 from ann"])
def test_a_command_that_makes_no_sense_is_an_error(command: str) -> None:
    player = Player()
    player.play("start")
    with pytest.raises(ValueError, match="there is no"):
        player.play(command)
