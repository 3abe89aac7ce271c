"""Vantage files: what is written can be read, what is wrong is named with its place, what is old is not taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.workloads import key

from fondaco.node import clock
from fondaco.node.tenant import bounds, replicas, vantages
from fondaco.node.tenant.choosing import choice, choice_again, lasting
from fondaco.node.tenant.vantages import Measured, Run, Vantage
from fondaco.protocol import addresses
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.scalars import ChainId, Millis
from fondaco.protocol.selection import Sample

NOW = Millis(1_800_000_000_000)
CHAIN = ChainId("town-1")
PAUL = addresses.encode(key(1))
samples = st.lists(st.none() | st.integers(1, 2_000).map(Millis), min_size=1, max_size=60)
runs = st.builds(
    lambda age, found: Run(at=Millis(NOW - age), samples=tuple(found)),
    st.integers(0, 2 * bounds.LATENCY_KEPT_MS),
    samples,
)
several = st.lists(runs, min_size=1, max_size=8).map(
    lambda found: Measured(peer="peer", runs=tuple(sorted(found, key=lambda run: run.at)))
)


def run(*found: int | None, at: int = NOW) -> Run:
    return Run(at=Millis(at), samples=tuple(None if one is None else Millis(one) for one in found))


def vantage(name: str = "paris", providers: dict[int, Measured] | None = None) -> Vantage:
    known = {key(number): one for number, one in (providers or {}).items()}
    return Vantage(name=name, chain=CHAIN, providers=known)


ONE = {"peer": "peer", "runs": [{"at": NOW - 1_000, "samples": [12, None, 13]}]}


def document(**changed: Any) -> dict[str, Any]:
    return {"vantage": "paris", "chain": CHAIN, "providers": {PAUL: ONE}} | changed


def written(path: Path, what: Any) -> Path:
    file = path / "paris.json"
    file.write_bytes(what if isinstance(what, bytes) else json.dumps(what).encode())
    return file


@given(measured=several)
def test_what_is_written_is_read_again(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("files") / "paris.json"
    found = vantage(providers={1: measured})
    path.write_bytes(vantages.to_bytes(found))
    assert vantages.read_all(path, now=NOW) == found


@given(measured=several)
def test_what_is_kept_is_new_and_bounded_and_keeping_it_again_changes_nothing(measured: Measured) -> None:
    oldest = Millis(NOW - bounds.LATENCY_KEPT_MS)
    kept = measured.since(oldest)
    young = [one for one in measured.runs if one.at >= oldest]
    assert (kept is None) == (not young)
    if kept is None:
        return
    assert 0 < len(kept.samples) <= bounds.LATENCY_SAMPLES
    assert kept.at == young[-1].at
    newest: list[Sample] = [sample for one in young for sample in one.samples if one.answered or one is young[-1]]
    assert kept.samples == newest[-bounds.LATENCY_SAMPLES :]
    assert kept.since(oldest) == kept


def test_measured_again_by_the_same_peer_is_added_and_by_another_peer_takes_its_place() -> None:
    first, second = Measured(peer="a", runs=(run(5, at=1),)), Measured(peer="a", runs=(run(7, at=2),))
    assert first.then(second).samples == [5, 7]
    assert second.then(first) == first.then(second), "whichever is read first"
    assert first.then(first) == first
    moved = Measured(peer="b", runs=(run(9, at=3),))
    assert first.then(moved) is moved


def test_the_providers_kept_are_those_measured_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LATENCY_PROVIDERS", 2)
    found = vantage(providers={n: Measured(peer="x", runs=(run(5, at=NOW - n),)) for n in range(1, 5)})
    assert set(found.kept(NOW).providers) == {key(1), key(2)}


def test_what_is_known_of_a_provider_is_known_of_one_peer() -> None:
    found = vantage(providers={1: Measured(peer="a", runs=(run(5),))})
    assert found.of(key(1), "a") is not None
    assert found.of(key(1), "b") is None
    assert found.of(key(2), "a") is None


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (b'{"vantage": ', "line 1, column 13"),
        (b'{\n  "vantage": "paris"\n  "chain": 1}', "line 3, column 3"),
        (b"\xff\xfe", "it is no JSON: UnicodeDecodeError"),
        (b"[" * 100_000, "it is no JSON: RecursionError"),
        (b'{"vantage": ' + b"9" * 5_000 + b"}", "it is no JSON: ValueError"),
        (b'{"vantage": "a", "vantage": "b"}', "vantage: it is there twice"),
        ([], "the file: a table is wanted"),
        ({}, "vantage: it is missing"),
        (document(vantage="no place"), "vantage: the name of a place is wanted"),
        (document(vantage="../x"), "vantage: the name of a place is wanted"),
        (document(vantage=7), "vantage: the name of a place is wanted"),
        (document(chain=""), "chain: the id of a chain is wanted"),
        (document(providers=[]), "providers: a table of at most 1000 is wanted"),
        (document(providers={"fond1x": {}}), "providers.fond1x: "),
        (document(more=1), "more: it means nothing"),
        (document(providers=document()["providers"] | {PAUL.upper(): ONE}), f"providers.{PAUL.upper()}: "),
    ],
)
def test_a_file_that_is_none_is_refused_with_the_place(tmp_path: Path, what: Any, told: str) -> None:
    with pytest.raises(Refused) as refusal:
        vantages.read(written(tmp_path, what), now=NOW)
    assert refusal.value.code == "latency.file"
    assert refusal.value.message.startswith(f"{tmp_path}/paris.json: {told}")


SAMPLE = f"providers.{PAUL}.runs[0].samples[1]: a whole number from 1 to 2000"


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (7, f"providers.{PAUL}: a table is wanted"),
        ({"peer": "x"}, f"providers.{PAUL}.runs: it is missing"),
        ({"peer": "", "runs": []}, f"providers.{PAUL}.peer: the id of a peer is wanted"),
        ({"peer": "x", "runs": []}, f"providers.{PAUL}.runs: 1 to 100 measurements are wanted"),
        ({"peer": "x", "runs": [{"at": "now", "samples": [1]}]}, f"providers.{PAUL}.runs[0].at: milliseconds"),
        ({"peer": "x", "runs": [{"at": True, "samples": [1]}]}, f"providers.{PAUL}.runs[0].at: milliseconds"),
        ({"peer": "x", "runs": [{"at": 1, "samples": []}]}, f"providers.{PAUL}.runs[0].samples: 1 to 100"),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1] * 101}]}, f"providers.{PAUL}.runs[0].samples: 1 to 100"),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1, 0]}]}, SAMPLE),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1, -1]}]}, SAMPLE),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1, 2_001]}]}, SAMPLE),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1, 1.5]}]}, SAMPLE),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1, False]}]}, SAMPLE),
        ({"peer": "x", "runs": [{"at": 1, "samples": [1, float("nan")]}]}, SAMPLE),
        (
            {"peer": "x", "runs": [{"at": NOW + 700_000, "samples": [1]}]},
            f"providers.{PAUL}.runs[0].at: it is in the future",
        ),
    ],
)
def test_a_provider_told_wrongly_is_refused_with_the_place(tmp_path: Path, one: Any, told: str) -> None:
    with pytest.raises(Refused) as refusal:
        vantages.read(written(tmp_path, document(providers={PAUL: one})), now=NOW)
    assert refusal.value.code == "latency.file"
    assert refusal.value.message.startswith(f"{tmp_path}/paris.json: {told}")


def test_a_misspelt_word_is_told_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        vantages.read(written(tmp_path, document(provider={})), now=NOW)
    assert refusal.value.hint == "did you mean providers?"


def test_a_file_that_is_not_there_or_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="No such file") as refusal:
        vantages.read(tmp_path / "none.json", now=NOW)
    assert refusal.value.code == "latency.file"
    monkeypatch.setattr(bounds, "LATENCY_FILE_BYTES", 20)
    with pytest.raises(Refused, match="longer than 20 bytes"):
        vantages.read(written(tmp_path, document()), now=NOW)


def test_what_is_too_old_is_left_out_and_a_file_with_nothing_else_refused(tmp_path: Path) -> None:
    week = bounds.LATENCY_KEPT_MS
    old = {"peer": "x", "runs": [{"at": NOW - week - 1, "samples": [1]}]}
    both = {"peer": "x", "runs": [*old["runs"], {"at": NOW - week, "samples": [2]}]}
    found = vantages.read(written(tmp_path, document(providers={PAUL: both})), now=NOW)
    assert found.providers[key(1)].samples == [2]
    with pytest.raises(Refused, match="was measured 7 days ago, 7 are taken") as refusal:
        vantages.read(written(tmp_path, document(providers={PAUL: old})), now=NOW)
    assert refusal.value.code == "latency.old"
    nobody = vantages.read(written(tmp_path, document(providers={})), now=NOW)
    assert (nobody.at, dict(nobody.providers)) == (None, {})


def test_files_of_another_chain_are_refused() -> None:
    vantages.check_chain([vantage()], CHAIN)
    with pytest.raises(Refused) as refusal:
        vantages.check_chain([vantage(), vantage("tokyo")], ChainId("other"))
    assert refusal.value.code == "latency.chain"


# Asked for by commands


def file_of(path: Path, name: str) -> Path:
    file = path / f"{name}-file.json"
    fresh = Measured(peer="x", runs=(run(5, at=clock.now()),))
    file.write_bytes(vantages.to_bytes(vantage(name, {1: fresh})))
    return file


def test_vantages_come_with_a_choice_that_asks_for_latency(tmp_path: Path) -> None:
    files = [file_of(tmp_path, "paris"), file_of(tmp_path, "tokyo")]
    assert [one.name for one in choice("fastest", "", files).vantages] == ["paris", "tokyo"]
    assert choice("cheapest", "latency.p50 < 9", files[:1]).asks_latency


@pytest.mark.parametrize(("name", "where"), [("cheapest", ""), ("spread", "price < 1")])
def test_vantages_that_nothing_asks_for_are_refused(tmp_path: Path, name: str, where: str) -> None:
    with pytest.raises(Refused) as refusal:
        choice(name, where, [file_of(tmp_path, "paris")])
    assert refusal.value.code == "latency.unused"


def test_a_place_is_looked_from_once_and_not_from_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(tmp_path, "paris")
    with pytest.raises(Refused, match="there is a file of vantage paris already") as refusal:
        choice("fastest", "", [file, file])
    assert refusal.value.code == "latency.vantage"
    monkeypatch.setattr(bounds, "LATENCY_VANTAGES", 1)
    with pytest.raises(Refused, match="2 vantages, 1 are looked from"):
        choice("fastest", "", [file, file])


def test_replicas_and_supervisors_narrow_a_choice_and_still_ask_for_latency(tmp_path: Path) -> None:
    wanted = choice("fastest", "", [file_of(tmp_path, "paris")])
    for narrowed in (replicas.apart(wanted, [key(1)]), replicas.rather(wanted, regions={"eu"}, shunned=set())):
        assert narrowed.asks_latency
        assert narrowed.vantages == wanted.vantages


def test_what_was_said_once_holds_in_any_folder_and_outlives_its_vantages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    file_of(tmp_path, "paris")
    Path("rules.toml").write_text("", encoding="utf-8")
    said = choice("rules.toml", "latency.p95 < 9", [Path("paris-file.json")])
    name, files = lasting(said.name), said.vantage_files
    (tmp_path / "away").mkdir()
    monkeypatch.chdir("away")
    again = choice_again(name, "latency.p95 < 9", files)
    assert (again.vantages, again.where) == (said.vantages, said.where)
    files[0].unlink()
    assert not caplog.messages
    without = choice_again(name, "latency.p95 < 9", files)
    assert (without.vantages, without.where, without.asks_latency) == ((), said.where, True)
    assert "measured from this machine instead" in caplog.text
    for wrong in ((lasting("other.toml"), ""), (name, "price <")):
        with pytest.raises(FondacoError):
            choice_again(*wrong, files)
    assert lasting("balanced") == "balanced"
    assert lasting("mine:best") == "mine:best"


RULES = {
    "": True,  # latency weighs in by default
    "[weights]\nlatency = 0\nprice = 1\n": False,
    'require = "latency.p95 < 9"\n[weights]\nlatency = 0\nprice = 1\n': True,
    '[weights]\nlatency = 0\n[[prefer]]\nwhen = "not latency.p99 > 9"\npoints = 5\n': True,
    '[weights]\nlatency = 0\n[[prefer]]\nwhen = "region = eu-*"\npoints = 5\n': False,
}


@pytest.mark.parametrize("rules", RULES)
def test_rules_ask_for_latency_where_they_name_or_weigh_it(tmp_path: Path, rules: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(rules)
    assert choice(str(file)).asks_latency == RULES[rules]


def test_a_function_of_ones_own_says_whether_it_goes_by_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (
        "def one(group, candidates, known): ...\ndef two(group, candidates, known): ...\ntwo.by_latency = True\n"
    )
    (tmp_path / "strategies_of_this_test.py").write_text(text)
    assert not choice("strategies_of_this_test:one").asks_latency
    assert choice("strategies_of_this_test:two").asks_latency
