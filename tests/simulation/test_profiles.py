"""What `fondaco simulate` runs: seeds of each profile, through the command's own code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from fondaco.node.cli import cli
from fondaco.node.simulation import profiles
from fondaco.node.simulation.faults import CALM, LIARS, Faults
from fondaco.node.simulation.invariants import Invariants
from fondaco.node.simulation.profiles import Outcome, Profile, Task, run, world_of
from fondaco.node.simulation.violation import Violation
from fondaco.node.simulation.world import World

FIELDS = ["seed", "nodes", "simulated_hours", "wall_s", "heights", "faults", "violations"]
STRIKES = {
    "lost",
    "duplicated",
    "reordered",
    "garbled",
    "cut off",
    "partitions",
    "partitions one way",
    "clogs",
    "clogged",
    "pauses",
    "kills",
    "kills before Record",
    "kills before Sign",
    "kills before Broadcast",
    "kills before Commit",
    "torn journal tails",
    "clock steps",
}
LIES = {
    "equivocations",
    "split proposals",
    "blocks withheld",
    "locks forgotten",
    "votes ahead",
    "stale messages",
    "garbage",
    "forged certificates",
    "cheating blocks",
    "turns passed",
}


def simulate(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    result = CliRunner().invoke(cli, ["simulate", *arguments, "--json"])
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr


@pytest.mark.parametrize("profile", Profile)
def test_ten_seeds_of_a_profile_hold_every_promise(profile: Profile) -> None:
    for seed in range(100, 110):
        outcome = run(Task(seed=seed, profile=profile, heights=20))
        assert outcome.violations == ()
        assert outcome.heights >= 20


def test_seven_nodes_and_ten_hold_them_too() -> None:
    for nodes in (7, 10):
        assert run(Task(seed=1, profile=Profile.BYZANTINE, nodes=nodes, heights=6)).violations == ()


@pytest.mark.heavy
@pytest.mark.timeout(400)
@pytest.mark.parametrize("profile", Profile)
def test_fifty_seeds_by_the_command(profile: Profile) -> None:
    command = [sys.executable, "-m", "fondaco", "simulate", "--seeds", "1..50", "--profile", profile, "--json"]
    done = subprocess.run([*command, "--jobs", "2"], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["seed"] for one in found] == list(range(1, 51))
    assert all(one["heights"] >= 60 for one in found if one["profile"] != "safety")
    struck = sum((Counter(one["faults"]) for one in found), Counter[str]())
    assert set(struck) >= STRIKES | (LIES if profile is Profile.BYZANTINE else set())


def test_the_same_seed_gives_the_same_run_in_another_process_too() -> None:
    task = Task(seed=5, profile=Profile.BYZANTINE, heights=15)
    command = [sys.executable, "-m", *task.command.split(), "--json"]
    runs = []
    for salt in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": salt}
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        runs.append(json.loads(done.stdout) | {"wall_s": 0})
    assert runs[0] == runs[1] == run(task).to_json() | {"wall_s": 0}


def test_one_object_a_seed_in_order_with_these_fields_first() -> None:
    code, found, _ = simulate("--seeds", "3..6", "--heights", "3", "--jobs", "2", "--nodes", "5")
    assert code == 0
    assert [one["seed"] for one in found] == [3, 4, 5, 6]
    assert list(found[0])[: len(FIELDS)] == FIELDS
    assert found[0]["nodes"] == 5
    assert found[0]["profile"] == "safety"
    assert found[0]["replay"] == "fondaco simulate --seed 3 --nodes 5 --profile safety --heights 3"


def test_hours_take_the_place_of_heights() -> None:
    _, (one,), _ = simulate("--seed", "1", "--hours", "0.01", "--profile", "liveness")
    assert 0.01 <= one["simulated_hours"] < 0.06
    assert one["replay"].endswith("--profile liveness --hours 0.01")


def test_a_violation_is_told_with_what_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Invariants, *_: object) -> None:
        raise Violation("the sky has fallen")

    monkeypatch.setattr(Invariants, "committed", broken)
    code, found, told = simulate("--seeds", "1..2", "--heights", "2", "--jobs", "1")
    assert code == 1
    assert all("the sky has fallen" in one["violations"][0] for one in found)
    assert found[1]["replay"] in told


def test_an_error_of_ours_is_a_violation_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: World, **_: object) -> None:
        raise KeyError("nothing")

    monkeypatch.setattr(World, "storm", broken)
    (violation,) = run(Task(seed=1)).violations
    assert "KeyError('nothing')" in violation


def test_seeds_that_are_no_range_are_refused() -> None:
    for wrong in ("5", "7..3", "a..b", "..3"):
        assert CliRunner().invoke(cli, ["simulate", "--seeds", wrong]).exit_code == 2


def test_people_are_told_too() -> None:
    result = CliRunner().invoke(cli, ["simulate", "--seed", "1", "--heights", "2"])
    assert result.exit_code == 0
    assert result.stdout.startswith("seed 1 ")
    assert result.stdout.rstrip().endswith("ok")


def test_an_interrupt_stops_all_of_it_in_one_line() -> None:
    command = [sys.executable, "-m", "fondaco", "simulate", "--seeds", "1..100000", "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "stopped after" in told.splitlines()[-1]


def test_liars_have_less_than_a_third_of_the_power_and_as_much_of_it_as_they_can() -> None:
    for seed in range(50):
        for nodes in (4, 7, 10):
            world = world_of(Task(seed=seed, profile=Profile.BYZANTINE, nodes=nodes))
            lying = [not node.honest for node in world.nodes][:nodes]
            power = sum(power for power, lies in zip(world.powers, lying, strict=True) if lies)
            assert 0 < 3 * power < sum(world.powers)


def test_other_profiles_have_no_liars() -> None:
    for profile in (Profile.SAFETY, Profile.LIVENESS):
        worlds = [world_of(Task(seed=seed, profile=profile)) for seed in range(20)]
        assert all(len(world.honest()) == len(world.nodes) for world in worlds)


def test_a_core_has_enough_power_and_none_to_spare() -> None:
    for seed in range(30):
        world = world_of(Task(seed=seed, profile=Profile.LIVENESS, nodes=6))
        core = profiles.core_of(world)
        power = dict(zip((node.key for node in world.nodes), world.powers, strict=False))
        weights = [power[node.key] for node in core]
        assert 3 * sum(weights) > 2 * sum(world.powers) >= 3 * sum(weights[:-1])


def test_a_core_that_cannot_decide_is_noticed() -> None:
    world = World(seed=1)
    world.advance(5_000)
    core = world.nodes[:2]
    world.heal(core)
    with pytest.raises(Violation, match="no progress"):
        world.must_go_on(core)


def test_what_is_off_strikes_nobody() -> None:
    world = World(seed=1, faults=CALM)
    world.advance(20_000)
    assert world.report().faults == {}


@pytest.mark.parametrize("lie", LIARS)
def test_liars_of_each_kind_lie_and_change_nothing(lie: str) -> None:
    world = World(seed=3, faults=replace(Faults(loss=0.1), **{lie: 1}), config=profiles.HURRIED)
    report = world.run(safety_ms=15_000)
    assert set(report.faults) & LIES


def test_an_outcome_says_what_it_is_of() -> None:
    outcome = run(Task(seed=2, heights=2))
    assert isinstance(outcome, Outcome)
    assert outcome.to_json()["events"] == outcome.events > 0
