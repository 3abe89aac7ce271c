"""`fondaco provider probe`: what it finds where isolation holds, and that it notices where none does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from tests.integration.runtime.conftest import NOT_DOCKERS, Bench

from fondaco.node import runtime_survey
from fondaco.node.cli import cli
from fondaco.protocol.errors import Refused
from fondaco.protocol.scalars import LeaseId, Millis
from fondaco.provider.images.registries import Login
from fondaco.provider.runtimes import bubblewrap, crun, survey
from fondaco.provider.runtimes.port import (
    Capability,
    Channel,
    Command,
    ExecResult,
    Execution,
    Image,
    LogLine,
    State,
    Stats,
    Workload,
    WorkloadId,
    WorkloadSpec,
    quiet,
)
from fondaco.provider.runtimes.survey import Check, Report, Verdict

ISOLATION = ("namespaces", "seccomp", "capabilities", "no new privileges", "processes", "private addresses")


class Bare:
    """Runs workloads as plain processes of this machine: a runtime that isolates and limits nothing."""

    def __init__(self, claims: Capability) -> None:
        self._claims = claims
        self._ended: dict[WorkloadId, tuple[int, bytes]] = {}

    async def probe(self) -> Capability:
        return self._claims

    async def prepare(
        self, reference: str, *, login: Login | None = None, report: Callable[[int, int], None] = quiet
    ) -> Image:
        raise NotImplementedError

    async def start(self, spec: WorkloadSpec) -> Workload:
        done = await trio.run_process(spec.command, capture_stdout=True, check=False)
        self._ended[spec.id] = done.returncode, done.stdout
        return await self.wait(spec.id)

    async def exec(self, workload: WorkloadId, argv: Sequence[str], *, timeout_ms: int = 0) -> ExecResult:
        raise NotImplementedError

    async def link(self, specs: Sequence[WorkloadSpec]) -> None:
        raise NotImplementedError

    async def release(self, lease: LeaseId) -> None:
        raise NotImplementedError

    def execute(self, workload: WorkloadId, command: Command) -> AbstractAsyncContextManager[Execution]:
        raise NotImplementedError

    async def logs(
        self, workload: WorkloadId, *, tail: int | None = None, follow: bool = False, previous: bool = False
    ) -> AsyncIterator[LogLine]:
        for text in self._ended[workload][1].decode().splitlines():
            yield LogLine(at=Millis(0), channel=Channel.OUT, text=text)

    async def stats(self, workload: WorkloadId) -> Stats:
        raise NotImplementedError

    async def dial(self, workload: WorkloadId, port: int) -> trio.SocketStream:
        raise NotImplementedError

    async def wait(self, workload: WorkloadId) -> Workload:
        code = self._ended[workload][0]
        return Workload(id=workload, state=State.EXITED, pid=None, exit_code=code, started_at=None, definition="")

    async def pause(self, workload: WorkloadId) -> None:
        raise NotImplementedError

    async def resume(self, workload: WorkloadId) -> None:
        raise NotImplementedError

    async def stop(self, workload: WorkloadId, *, grace_ms: int = 0) -> Workload | None:
        return None

    async def list(self) -> tuple[Workload, ...]:
        return ()

    async def aclose(self) -> None:
        pass


def verdicts(report: Report) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in report.checks}


@pytest.mark.heavy
async def test_what_a_runtime_promises_is_what_the_survey_sees(bench: Bench) -> None:
    promised = await bench.runtime.probe()
    report = await survey.survey("embedded", bench.runtime, bench.image.reference)
    found = verdicts(report)
    assert report.usable, report
    assert {found[name] for name in ISOLATION} == {Verdict.HOLDS}, report
    for name in ("memory", "cpu"):
        assert found[name] is (Verdict.HOLDS if name in promised.hard_limits else Verdict.SOFT), report
    assert await bench.runtime.list() == ()


async def test_a_runtime_that_isolates_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        survey, "PRIVATE", ()
    )  # only the listener of its own: nothing else of this machine is dialled
    claims = Capability(
        backend="bare",
        version="0",
        namespaces=("user", "mnt", "ipc", "uts"),
        seccomp=False,
        no_capabilities=False,
        no_new_privileges=False,
        nested_namespaces_refused=False,
        writable_root=True,
        hard_limits=(),
        limits_note="",
    )
    report = await survey.survey("bare", Bare(claims), "")
    failing = {*ISOLATION, "memory"}
    assert {name for name, verdict in verdicts(report).items() if verdict is Verdict.FAILS} == failing
    assert not report.usable
    namespaces, *_, network = report.checks
    assert namespaces.seen == "its own: user, mnt, ipc, uts; the host's: pid, net"
    assert network.seen.startswith("reached 127.0.0.1:")
    own = await survey.promises("bare", Bare(claims))
    assert set(verdicts(own).values()) == {Verdict.FAILS}, "what it says itself is told as it says it"


@NOT_DOCKERS
async def test_a_runtime_that_cannot_start_anything_is_missing_with_the_reason(bench: Bench) -> None:
    report = await survey.survey("embedded", bench.runtime, "no/such:image")
    assert not report.usable
    assert "no/such:image" in report.missing


@pytest.mark.heavy
def test_the_command_prints_one_object_for_programs_and_a_table_for_people(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime_survey, "RESOLVERS", ())  # nothing beyond this machine is dialled
    found = CliRunner().invoke(cli, ["provider", "probe", "--json", "--home", str(tmp_path)])
    told = json.loads(found.stdout)
    names = [runtime["name"] for runtime in told["runtimes"]]
    assert names[:2] == ["bubblewrap", "crun"]
    assert names[-2:] == ["docker", "kubernetes"]
    assert all(bool(runtime["checks"]) != bool(runtime["missing"]) for runtime in told["runtimes"])
    assert found.exit_code == (0 if told["usable"] else 1)
    assert (told["install"] is None) == bool(told["usable"])
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_works_it_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bubblewrap, "find", lambda: bubblewrap.Bubblewrap("/bin/false"))
    monkeypatch.setattr(crun, "find", lambda: None)
    found = CliRunner().invoke(cli, ["provider", "probe", "--home", str(tmp_path)])
    assert found.exit_code == Refused.exit_code == 1
    assert "bubblewrap: no sandbox can be made here" in found.stdout
    assert "crun: not installed: apt install crun" in found.stdout
    assert "[runtime.unavailable]" in found.stderr
    assert "apt install crun" in found.stderr.splitlines()[-1]


def test_a_report_is_usable_with_soft_limits_but_not_with_a_hole() -> None:
    def one(verdict: Verdict) -> Report:
        return Report(name="x", checks=(Check(name="cpu", verdict=verdict, seen=""),))

    assert one(Verdict.HOLDS).usable
    assert one(Verdict.SOFT).usable
    assert not one(Verdict.FAILS).usable
    assert not Report(name="x", missing="not here").usable
